"""Embedding mixup of batches that hypothesis finds."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.mixing.against_loops import assert_like_loops, lambda_for, metrix
from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import CASES, DIM
from tests.support.loss_tests import QUIET, Build


@st.composite
def mixing_problems(draw: st.DrawFn) -> tuple[str, str, bool, Tensor, Tensor, int]:
    n = draw(st.integers(0, 7))
    labels = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    seed = draw(st.integers(0, 2**31))
    x = torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    name, pairs = draw(st.sampled_from(sorted(CASES))), draw(st.sampled_from(PAIR_SETS))
    return name, pairs, draw(st.booleans()), x, torch.tensor(labels, dtype=torch.int64), seed


@given(problem=mixing_problems())
@settings(QUIET, max_examples=60)
def test_any_batch_as_the_loops_say(
    backend: str, build: Build, problem: tuple[str, str, bool, Tensor, Tensor, int]
) -> None:
    name, pairs, renormalize, x, labels, seed = problem
    case, loss = CASES[name], build(CASES[name], seed)
    lam = lambda_for(case, pairs, labels, seed)
    assert_like_loops(case, loss, x, labels, pairs, lam, renormalize=renormalize)


@given(problem=mixing_problems())
@settings(QUIET, max_examples=30)
def test_order_of_the_batch_does_not_matter(
    backend: str, build: Build, problem: tuple[str, str, bool, Tensor, Tensor, int]
) -> None:
    """With a lambda that is symmetric as the sampled one is, unordered pairs have no order either."""
    _, pairs, renormalize, x, labels, seed = problem
    n = len(labels)
    loss = build(CASES["ms"])
    lam = loop_oracle.pair_lambda(seed, range(n), range(n), 2.0)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    criterion = metrix(loss, renormalize=renormalize)
    want = criterion.mixed_loss(x, labels, pairs=pairs, lam=lam)
    got = criterion.mixed_loss(x[order], labels[order], pairs=pairs, lam=lam[order][:, order])
    assert_close([got.detach()], [want.detach()], rtol=1e-9)
