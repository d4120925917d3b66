"""Random affine maps of a batch, against torchvision's of single images."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torchvision")

from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomAffine
from torchvision.transforms.v2 import functional as one_by_one

from train.data import augment
from train.randomness import seeds

SEEDS = seeds(9, 3)


@pytest.mark.parametrize("shape", [(9, 1, 32, 32), (5, 3, 20, 28)])
def test_pictures_are_those_of_torchvision(shape):
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float()
    found = augment.random_affine(images, SEEDS[: shape[0]])
    n, _, height, width = shape
    angle, scale, shear, dx, dy = augment.uniform(SEEDS[:n])
    for k, image in enumerate(images):
        expected = one_by_one.affine(
            image,
            float(2 * angle[k] - 1) * 15,
            [round(float((2 * dx[k] - 1) * 0.1 * width)), round(float((2 * dy[k] - 1) * 0.1 * height))],
            float(0.85 + 0.3 * scale[k]),
            [float(2 * shear[k] - 1) * 10, 0.0],
            InterpolationMode.NEAREST,
            fill=255,
        )
        # A place halfway between two pixels may round to either.
        assert (found[k] == expected).float().mean() > 0.995


def test_the_law_is_that_of_torchvision():
    """Of the mean picture of 4,000 maps: what a pixel is on average depends on all amounts."""
    image = torch.zeros(1, 16, 16)
    image[:, 4:9, 6:14] = 255
    ours = augment.random_affine(image.expand(4000, 1, 16, 16), seeds(4000, 0))
    torch.manual_seed(0)
    transform = RandomAffine(15, translate=(0.1, 0.1), scale=(0.85, 1.15), shear=10, fill=255)
    theirs = torch.stack([transform(image) for _ in range(4000)])
    # A pixel's mean of 4,000 has a standard error of at most 255 / 2 / 63 = 2, the difference of two 2.9.
    assert (ours.mean(0) - theirs.mean(0)).abs().max() < 4.5 * 2.9
    assert (ours.mean(0) - theirs.mean(0)).square().mean().sqrt() < 2.9


def test_a_map_follows_from_its_seed_alone():
    images = torch.rand(4, 1, 12, 12) * 255
    whole = augment.random_affine(images, SEEDS[:4])
    assert torch.equal(augment.random_affine(images[2:], SEEDS[2:4]), whole[2:])
    assert not torch.equal(augment.random_affine(images, SEEDS[4:8]), whole)
