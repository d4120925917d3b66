"""Random affine maps of a whole batch at once: what torchvision does image by image, in a hundredth of the calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DEGREES, TRANSLATE, SCALE, SHEAR = 15.0, 0.1, (0.85, 1.15), 10.0
WHITE = 255.0


def random_affine(images: Tensor, seeds: Sequence[int]) -> Tensor:
    """Each image rotated, moved, scaled and sheared by amounts of its own, on white.

    The law and the picture are those of torchvision's RandomAffine(15, translate=(0.1, 0.1), scale=(0.85, 1.15),
    shear=10, fill=255): uniform amounts, whole pixels of translation, the nearest pixel.

    Args:
        images: [n, c, h, w] float, from 0 to 255.
        seeds: one for each image, from which alone its map follows.

    Returns:
        [n, c, h, w].
    """
    _, _, height, width = images.shape
    angle, scale, shear, dx, dy = uniform(seeds)
    angle = (2 * angle - 1) * DEGREES
    scale = SCALE[0] + scale * (SCALE[1] - SCALE[0])
    shear = (2 * shear - 1) * SHEAR
    dx = ((2 * dx - 1) * TRANSLATE * width).round()
    dy = ((2 * dy - 1) * TRANSLATE * height).round()
    theta = inverse(angle, dx, dy, scale, shear, height, width).to(images)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # Outside there is 0, which is white once white is 0.
    return F.grid_sample(images - WHITE, grid, mode="nearest", padding_mode="zeros", align_corners=False) + WHITE


def uniform(seeds: Sequence[int]) -> Tensor:
    """[5, n] numbers in [0, 1), a column for each seed."""
    words = np.array([np.random.SeedSequence(seed).generate_state(5, np.uint64) for seed in seeds]).reshape(-1, 5)
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53).T


def inverse(angle: Tensor, dx: Tensor, dy: Tensor, scale: Tensor, shear: Tensor, height: int, width: int) -> Tensor:
    """[n, 2, 3]: from a place in the result to where it comes from, in the coordinates from -1 to 1 of affine_grid.

    Around the centre, in pixels, an image goes through R(angle) [[1, -tan(shear)], [0, 1]] scale and then by (dx, dy).
    """
    rotation, slope = angle * math.pi / 180, torch.tan(shear * math.pi / 180)
    sin, cos = torch.sin(rotation), torch.cos(rotation)
    first = torch.stack((cos - sin * slope, sin + cos * slope)) / scale
    second = torch.stack((-sin, cos)) / scale
    moved = -(first[0] * dx + first[1] * dy), -(second[0] * dx + second[1] * dy)
    rows = (
        torch.stack((first[0], first[1] * height / width, moved[0] * 2 / width), dim=1),
        torch.stack((second[0] * width / height, second[1], moved[1] * 2 / height), dim=1),
    )
    return torch.stack(rows, dim=1)
