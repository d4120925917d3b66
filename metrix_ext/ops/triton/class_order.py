"""class_order: examples sorted by class, by counting.

How many labels are below an example's own, or equal and before it, is its place. One launch and no atomics, where a
sort takes several; quadratic in the examples, with a constant that vanishes beside their similarities.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import OPTIONS, on_device

ROWS, COLUMNS = 16, 256  # examples of a program, and others that it compares them with at once


@triton.jit(do_not_specialize=["n"])
def places_of_examples(labels, order, positives, place, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """order, place [n] and positives [n, 2]; each program has ROWS of the labels and compares them with all."""
    example = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = example < n
    mine = tl.load(labels + example, mask=exists, other=0)[:, None]
    below = tl.zeros((ROWS, COLUMNS), tl.int32)
    equal_before = tl.zeros((ROWS, COLUMNS), tl.int32)
    up_to_equal = tl.zeros((ROWS, COLUMNS), tl.int32)
    for begin in range(0, n, COLUMNS):
        other = begin + tl.arange(0, COLUMNS)
        listed = (other < n)[None, :]
        label = tl.load(labels + other, mask=other < n, other=0)[None, :]
        below += (listed & (label < mine)).to(tl.int32)
        equal_before += (listed & (label == mine) & (other[None, :] < example[:, None])).to(tl.int32)
        up_to_equal += (listed & (label <= mine)).to(tl.int32)
    begin_of_class = tl.sum(below, 1).to(tl.int64)
    at = begin_of_class + tl.sum(equal_before, 1)
    tl.store(order + at, example.to(tl.int64), mask=exists)
    tl.store(positives + 2 * at, begin_of_class, mask=exists)
    tl.store(positives + 2 * at + 1, tl.sum(up_to_equal, 1).to(tl.int64), mask=exists)
    tl.store(place + example, example.to(tl.int64), mask=exists)


def class_order(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """order, positives, place, as the op; labels are contiguous."""
    n = len(labels)
    order, positives, place = labels.new_empty(n), labels.new_empty((n, 2)), labels.new_empty(n)
    if n:
        with on_device(labels):
            places_of_examples[(triton.cdiv(n, ROWS),)](labels, order, positives, place, n, ROWS, COLUMNS, **OPTIONS)
    return order, positives, place
