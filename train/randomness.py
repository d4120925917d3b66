"""Random numbers that follow from where they are used: the seed of the run, the epoch, the batch, the image.

Nothing that has been drawn before has a say, so a run that is resumed draws what it would have drawn, with any number
of workers.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch


def seeds(count: int, *where: int) -> list[int]:
    """Seeds below 2^63 that are independent of those of other places."""
    return [int(state >> np.uint64(1)) for state in np.random.SeedSequence(where).generate_state(count, np.uint64)]


def seed_step(*where: int) -> None:
    """Everything that a step draws without a generator of its own: dropout, sets of pairs, lambda, what miners draw."""
    (seed,) = seeds(1, *where)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


class Draw(NamedTuple):
    """An image of a batch, and the seed of its augmentation."""

    index: int
    seed: int
