"""From a picture to the network's input, in training and in evaluation.

Characters are augmented a batch at a time (augment.py), not here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from .registry import DATA_SETS
from .statistics import IMAGENET, Statistics

Transform = Callable[[Image.Image], Tensor]


def training(dataset: str, image_size: int, statistics: Statistics = IMAGENET) -> Transform:
    place = [v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()] if DATA_SETS[dataset].photographs else []
    return v2.Compose([*place, *to_input(statistics)])


def evaluation(dataset: str, image_size: int, statistics: Statistics = IMAGENET) -> Transform:
    if not DATA_SETS[dataset].photographs:
        return v2.Compose(to_input(statistics))
    return v2.Compose([v2.Resize(round(image_size * 256 / 224)), v2.CenterCrop(image_size), *to_input(statistics)])


def to_input(statistics: Statistics) -> list[torch.nn.Module]:
    return [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(*statistics),
    ]
