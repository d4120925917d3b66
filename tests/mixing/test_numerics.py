"""Embedding mixup in floating point: rounding, overflow, NaN, half precision, repeatability."""

from __future__ import annotations

import pytest
import torch

from tests.mixing.against_loops import every_set, expected, lambda_for, metrix, mixed_and_gradients
from tests.support.compare import assert_no_further, relative_error
from tests.support.loss_cases import CASES, Tensors, batch, largest_exponent
from tests.support.loss_tests import (
    Build,
    assert_float32_like_literal,
    assert_repeats,
    default_case,
    huge_similarities,
    random_batch,
    with_loss,
)


@default_case
def test_float32_is_as_good_as_the_literal_formula(backend: str, build: Build, name: str) -> None:
    case, loss = CASES[name], build(CASES[name], dtype=torch.float32)

    def run(seed: int) -> tuple[Tensors, Tensors, Tensors]:
        x, labels = batch("ragged", seed)
        x = x.float()
        lam = lambda_for(case, "pos-neg", labels, seed).float()
        got = mixed_and_gradients(loss, x, labels, "pos-neg", lam, renormalize=True)
        literal, truth = (
            expected(with_loss(case, dtype=dtype), loss, x, labels, "pos-neg", lam, renormalize=True)
            for dtype in (torch.float32, torch.float64)
        )
        return got, literal, truth

    assert_float32_like_literal(run(seed) for seed in range(3))


@default_case
def test_huge_similarities(backend: str, build: Build, name: str) -> None:
    case, loss, x, labels = huge_similarities(CASES[name], build, torch.float32)
    lam = lambda_for(case, "pos-neg", labels).float()
    truth = expected(case, loss, x.double(), labels, "pos-neg", lam)
    literal = expected(with_loss(case, dtype=torch.float32), loss, x, labels, "pos-neg", lam)
    got = mixed_and_gradients(loss, x, labels, "pos-neg", lam)
    exponent = largest_exponent(case.loss, x)
    assert_no_further(got[:1], literal[:1], truth[:1], 4 * torch.finfo(torch.float32).eps, exponent)
    # Rounding a similarity moves its exponent by eps * exponent, and the share of its term by a part of that.
    floor = 1e-5 + 0.02 * torch.finfo(torch.float32).eps * exponent
    assert_no_further(got[1:], literal[1:], truth[1:], floor, 1.0)


@default_case
@every_set
def test_nan(backend: str, build: Build, name: str, pairs: str) -> None:
    """One NaN must reach the loss wherever the pair set has anything to mix with it."""
    loss = build(CASES[name])
    x, labels = batch("ragged")
    lam = lambda_for(CASES[name], pairs, labels)
    finite = metrix(loss).mixed_loss(x, labels, pairs=pairs, lam=lam)
    x[2, 0] = float("nan")
    value = metrix(loss).mixed_loss(x, labels, pairs=pairs, lam=lam)
    assert value.isnan() or (finite == 0.0 and value == 0.0)


@default_case
@pytest.mark.usefixtures("two_threads")
def test_bitwise_repeatable(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name], dtype=torch.float32)
    x, labels = random_batch(40)
    x = x.float()
    assert_repeats(lambda: mixed_and_gradients(loss, x, labels, "pos-neg", 0.4, renormalize=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["ms", "contrastive", "pa", "proxynca++"])
def test_half_precision_input(backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
    case, loss = CASES[name], build(CASES[name], dtype=torch.float32)
    x, labels = batch("ragged")
    x = x.to(dtype)
    lam = lambda_for(case, "pos-neg", labels).float()
    got = mixed_and_gradients(loss, x, labels, "pos-neg", lam, renormalize=True)
    want = expected(case, loss, x.double(), labels, "pos-neg", lam, renormalize=True)
    assert relative_error(got[0], want[0]) < 2e-5
    assert got[1].dtype == dtype
    assert relative_error(got[1], want[1]) < 2 * torch.finfo(dtype).eps
