"""Feature maps as the kernels take them."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_POSITIONS = 2**15 - 1  # of an int16 argmax


def compute_dtype(features: Tensor) -> torch.dtype:
    """The type of lambda, averages and gradients that are added up."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def strides(features: Tensor) -> tuple[int, int, int] | None:
    """From image to image, channel to channel and position to position; None if positions are not evenly spaced."""
    image, channel, row, column = features.stride()
    height, width = features.shape[2:]
    if width == 1 or features.numel() == 0:
        return image, channel, row
    return (image, channel, column) if height == 1 or row == width * column else None


def evenly_spaced(features: Tensor) -> Tensor:
    """The same maps with positions evenly spaced, copied only if they are not."""
    return features if strides(features) else features.contiguous()
