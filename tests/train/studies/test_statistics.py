"""The paired t-test and Holm's correction, against figures that can be checked by hand."""

from __future__ import annotations

import math

import pytest

from train.studies.statistics import holm, paired

pytest.importorskip("scipy")


def test_two_pairs():
    """Differences 1 and 3: t = 2 / (sqrt(2) / sqrt(2)) = 2, whose p of one degree of freedom is 1 - 2 atan(2) / pi."""
    found = paired([2.0, 5.0], [1.0, 2.0])
    assert (found.mean, found.pairs) == (2.0, 2)
    assert found.deviation == pytest.approx(math.sqrt(2))
    assert found.p == pytest.approx(1 - 2 * math.atan(2) / math.pi)


def test_pairs_not_means():
    """The same differences each time are significant, however much the figures differ."""
    assert paired([1.0, 50.0, 90.01], [0.0, 49.0, 89.0]).p < 1e-3
    assert paired([1.0, 50.0, 90.0], [50.0, 90.0, 1.0]).p > 0.9


@pytest.mark.parametrize(("these", "p"), [([], 1.0), ([1.0], 1.0), ([1.0, 1.0], 1.0), ([2.0, 2.0], 0.0)])
def test_where_there_is_no_spread(these, p):
    assert paired(these, [1.0] * len(these)).p == p


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
