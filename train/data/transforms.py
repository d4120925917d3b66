"""From a picture to the network's input, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from .registry import DATA_SETS

Transform = Callable[[Image.Image], Tensor]
Channels = Sequence[float]
IMAGENET: tuple[Channels, Channels] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation


def training(dataset: str, image_size: int, statistics: tuple[Channels, Channels] = IMAGENET) -> Transform:
    if DATA_SETS[dataset].photographs:
        place = [v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()]
    else:  # no flip and no crop: a mirrored or cut character is another one
        place = [v2.RandomAffine(15, translate=(0.1, 0.1), scale=(0.85, 1.15), shear=10, fill=255)]
    return v2.Compose([*place, *to_input(*statistics)])


def evaluation(dataset: str, image_size: int, statistics: tuple[Channels, Channels] = IMAGENET) -> Transform:
    if not DATA_SETS[dataset].photographs:
        return v2.Compose(to_input(*statistics))
    return v2.Compose([v2.Resize(round(image_size * 256 / 224)), v2.CenterCrop(image_size), *to_input(*statistics)])


def to_input(mean: Channels, std: Channels) -> list[torch.nn.Module]:
    """Scaled by the statistics that the network expects, of pixels from 0 to 1."""
    return [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=list(mean), std=list(std)),
    ]
