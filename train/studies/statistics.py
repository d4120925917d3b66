"""Are two arms of a study different: paired t-test, and Holm's correction of many of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UserError


class Difference(NamedTuple):
    """Of pairs of figures: the mean difference, its standard deviation, and p of the two-sided paired t-test.

    p is 1 where there are fewer than two pairs: nothing can be said.
    """

    mean: float
    deviation: float
    p: float
    pairs: int


def paired(these: Sequence[float], others: Sequence[float]) -> Difference:
    """these minus others, pair by pair."""
    difference = np.subtract(these, others)
    n = len(difference)
    mean = float(difference.mean()) if n else 0.0
    if n < 2:
        return Difference(mean, 0.0, 1.0, n)
    deviation = float(difference.std(ddof=1))
    if deviation == 0.0:
        return Difference(mean, 0.0, 1.0 if mean == 0.0 else 0.0, n)
    return Difference(mean, deviation, float(2 * _student().sf(abs(mean) / (deviation / n**0.5), n - 1)), n)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the smallest p times the number of tests, and so on, never decreasing."""
    order = np.argsort(p)
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def _student():  # type: ignore[no-untyped-def]
    try:
        from scipy.stats import t
    except ImportError:
        raise UserError("p of a t-test needs scipy: pip install 'metrix_ext[study]'") from None
    return t
