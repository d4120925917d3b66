"""The clean losses in floating point: rounding, overflow, half precision, repeatability."""

from __future__ import annotations

import pytest
import torch

from tests.losses.against_loops import expected, value_and_gradients
from tests.support.compare import assert_close, assert_no_further, relative_error
from tests.support.loss_cases import CASES, Tensors, batch, largest_exponent, leaf
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
    """The error to the float64 truth, against that of the loops in float32."""
    case, loss = CASES[name], build(CASES[name], dtype=torch.float32)

    def run(seed: int) -> tuple[Tensors, Tensors, Tensors]:
        x, labels = batch("ragged", seed)
        x = x.float()
        literal, truth = (
            expected(with_loss(case, dtype=dtype), loss, x, labels) for dtype in (torch.float32, torch.float64)
        )
        return value_and_gradients(loss, x, labels), literal, truth

    assert_float32_like_literal(run(seed) for seed in range(4))


@default_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_similarities(backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
    """Exponents up to a million: sums are kept as logarithms, so nothing overflows, and rounding stays
    what a literal log-sum-exp has."""
    case, loss, x, labels = huge_similarities(CASES[name], build, dtype)
    truth, literal = expected(case, loss, x, labels), expected(with_loss(case, dtype=dtype), loss, x, labels)
    got = value_and_gradients(loss, x, labels)
    exponent = largest_exponent(case.loss, x)
    assert_no_further(got[:1], literal[:1], truth[:1], 4 * torch.finfo(dtype).eps, exponent)
    assert_no_further(got[1:], literal[1:], truth[1:], 1e-5 if dtype == torch.float32 else 1e-8, 1.0)


@default_case
@pytest.mark.usefixtures("two_threads")
def test_bitwise_repeatable(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name], dtype=torch.float32)
    x, labels = random_batch(200)
    x = x.float()
    assert_repeats(lambda: value_and_gradients(loss, x, labels))


@default_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input(backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
    """Only the input is rounded, not the similarities: else gamma = 75 makes 15 % of it."""
    case, loss = CASES[name], build(CASES[name], dtype=torch.float32)
    x, labels = batch("ragged")
    x = x.to(dtype)
    got, want = value_and_gradients(loss, x, labels), expected(case, loss, x.double(), labels)
    assert got[1].dtype == dtype
    assert relative_error(got[0], want[0]) < 2e-5
    assert relative_error(got[1], want[1]) < 2 * torch.finfo(dtype).eps


@default_case
def test_autocast_changes_nothing(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name], dtype=torch.float32)
    x, labels = batch("ragged")
    x = x.float()
    want = value_and_gradients(loss, x, labels)
    x = leaf(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, labels)
    got = [value.detach(), *torch.autograd.grad(value, [x, *loss.parameters()])]
    assert_close(got, want, rtol=1e-6)
