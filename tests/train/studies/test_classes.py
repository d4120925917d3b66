"""Who learns what, and who judges."""

from __future__ import annotations

import numpy as np
import pytest

from train.errors import UserError
from train.studies.classes import parts

LABELS = np.repeat(np.arange(40), 3)


def classes_of(index: np.ndarray) -> set[int]:
    return set(LABELS[index].tolist())


def test_no_class_is_on_two_sides():
    found = parts(LABELS, split=3, classes=0)
    seen, validation, test = map(classes_of, found)
    assert (len(seen), len(validation), len(test)) == (16, 4, 20)
    assert seen | validation | test == set(range(40))
    assert sum(map(len, found)) == len(LABELS)


def test_more_classes_contain_fewer_and_are_judged_by_the_same():
    few, many = parts(LABELS, 3, 5), parts(LABELS, 3, 9)
    assert classes_of(few.seen) < classes_of(many.seen)
    assert len(classes_of(few.seen)) == 5
    assert all(np.array_equal(a, b) for a, b in zip(few[1:], many[1:], strict=True))


def test_another_split_is_another():
    assert classes_of(parts(LABELS, 0, 0).test) != classes_of(parts(LABELS, 1, 0).test)


def test_too_many():
    with pytest.raises(UserError, match="classes is 17, but there are 16 to learn"):
        parts(LABELS, 0, 17)
