"""Which classes a run learns, which choose its settings, and which judge it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import UserError

VALIDATION = 0.2  # of the classes of the training half


class Parts(NamedTuple):
    """Numbers of images. `seen` are those that are learnt, `test` is the other half of the classes."""

    seen: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def parts(labels: np.ndarray, split: int, classes: int) -> Parts:
    """Halves of the classes by the seed; of the first one a fifth for validation, and of the rest the first `classes`.

    More training classes contain fewer: the settings of a study differ in nothing else. 0 are all.
    """
    order = np.random.default_rng(split).permutation(np.unique(labels))
    first, second = np.array_split(order, 2)
    validation, rest = np.split(first, [round(VALIDATION * len(first))])
    if classes > len(rest):
        raise UserError(f"classes is {classes}, but there are {len(rest)} to learn, the others validate and test")
    learnt = rest[: classes or None]
    return Parts(*(np.flatnonzero(np.isin(labels, some)) for some in (learnt, validation, second)))
