"""The statistics of the images that a network was trained on, by which its input is normalised."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """By channel, of pixels from 0 to 1: the input of the network is (pixel - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def to_input(self, pixels: Tensor, device: torch.device) -> Tensor:
        """Whole batches from pixels to the input of the network on its device, to which bytes are sent.

        Args:
            pixels: [n, 3, h, w], or [n, 1, h, w] grey ones, from 0 to 255, uint8 or float32.

        Returns:
            [n, 3, h, w] float32, channels last.
        """
        mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1).to(device) for values in self)
        images = (pixels.to(device, non_blocking=True).float() - mean) / std
        return images.to(memory_format=torch.channels_last)


IMAGENET = Statistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SYMMETRIC = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # from -1 to 1
