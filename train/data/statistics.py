"""The statistics of the images that a network was trained on, by which its input is normalised."""

from __future__ import annotations

from typing import NamedTuple


class Statistics(NamedTuple):
    """By channel, of pixels from 0 to 1: the input of the network is (pixel - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Statistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SYMMETRIC = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # from -1 to 1
