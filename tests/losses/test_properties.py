"""The clean losses of batches that hypothesis finds."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.losses.against_loops import ALL_CASES, expected, value_and_gradients
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, DIM, NUM_CLASSES
from tests.support.loss_tests import PAIR_CASES, QUIET, Build


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    n = draw(st.integers(0, 9))
    labels = draw(st.lists(st.integers(0, NUM_CLASSES - 1), min_size=n, max_size=n))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(n, DIM, generator=generator, dtype=torch.float64)
    return x * 10.0 ** draw(st.integers(-3, 3)), torch.tensor(labels, dtype=torch.int64)


@given(name=st.sampled_from(sorted(ALL_CASES)), xy=batches())
@settings(QUIET, max_examples=60)
def test_any_batch_as_the_loops_say(backend: str, build: Build, name: str, xy: tuple[Tensor, Tensor]) -> None:
    case, loss = ALL_CASES[name], build(ALL_CASES[name])
    assert_close(value_and_gradients(loss, *xy), expected(case, loss, *xy), rtol=1e-9)


@given(name=st.sampled_from(sorted(PAIR_CASES)), xy=batches(), seed=st.integers(0, 1000))
@settings(QUIET, max_examples=30)
def test_rotations_change_nothing(backend: str, build: Build, name: str, xy: tuple[Tensor, Tensor], seed: int) -> None:
    loss = build(CASES[name])
    x, labels = xy
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64))[0]
    assert_close([loss(x @ rotation, labels)], [loss(x, labels)], rtol=1e-9, atol=1e-12)
