"""Only equality of labels counts, whatever their values, type and order."""

from __future__ import annotations

import pytest
import torch

from tests.losses.against_loops import assert_like_loops, value_and_gradients
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, batch
from tests.support.loss_tests import Build, default_case, pair_case


@pair_case
def test_only_equality_counts(backend: str, build: Build, name: str) -> None:
    """Negative and huge labels, some of which agree in their low 32 bits and in float64."""
    x, labels = batch("ragged")
    names = torch.tensor([-(2**63), 2**63 - 1, 2**62, 2**62 + 1, -1], dtype=torch.int64)
    loss = build(CASES[name])
    want = value_and_gradients(loss, x, labels)
    assert_close(value_and_gradients(loss, x, names[labels]), want, rtol=1e-13)


@pair_case
def test_labels_alike_in_their_low_bits(backend: str, build: Build, name: str) -> None:
    x, _ = batch("ragged")
    labels = torch.tensor([0, 2**32, 0, 2**32, 2**33, 2**33, 1, 1])
    loss = build(CASES[name])
    assert_like_loops(CASES[name], loss, x, labels)


@default_case
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_other_integer_types(backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
    x, labels = batch("ragged")
    loss = build(CASES[name])
    want = value_and_gradients(loss, x, labels)
    assert_close(value_and_gradients(loss, x, labels.to(dtype)), want, rtol=1e-13)


@default_case
def test_order_of_the_batch_does_not_matter(backend: str, build: Build, name: str) -> None:
    x, labels = batch("ragged")
    order = torch.tensor([5, 2, 7, 0, 3, 1, 6, 4])
    loss = build(CASES[name])
    want = value_and_gradients(loss, x, labels)
    got = value_and_gradients(loss, x[order], labels[order])
    assert_close(got, [want[0], want[1][order], *want[2:]], rtol=1e-11)
