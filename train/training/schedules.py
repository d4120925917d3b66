"""The learning rate of an epoch, a function of its number alone: a run that is resumed needs no state for it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence


def step(epoch: int, every: int, gamma: float) -> float:
    """1, times gamma after each `every` epochs; never if that is 0."""
    return power(gamma, epoch // every) if every else 1.0


def multi_step(epoch: int, milestones: Sequence[int], gamma: float) -> float:
    """1, times gamma after each of these numbers of epochs."""
    return power(gamma, bisect_right(sorted(milestones), epoch))


def cosine(epoch: int, epochs: int) -> float:
    """From 1 towards 0 along half a cosine, which ends after the last epoch (Loshchilov & Hutter 2017)."""
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def power(gamma: float, times: int) -> float:
    try:
        return gamma**times
    except OverflowError:
        return math.inf
