"""From a picture to pixels of the network's size, in training and in evaluation.

They stay bytes: batches are normalised on the device (statistics.py). Characters are augmented a batch at a time
(augment.py), not here.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from .registry import DATA_SETS

Transform = Callable[[Image.Image], Tensor]  # to uint8 [3, h, w]


def training(image_size: int) -> Transform:
    """Of a photograph. The crop makes it small before anything else is done, and its size is one of its own, so that it
    is no work for whole batches."""
    return v2.Compose([v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip(), v2.ToImage()])


def evaluation(dataset: str, image_size: int) -> Transform:
    if not DATA_SETS[dataset].photographs:
        return v2.ToImage()
    return v2.Compose([v2.Resize(round(image_size * 256 / 224)), v2.CenterCrop(image_size), v2.ToImage()])
