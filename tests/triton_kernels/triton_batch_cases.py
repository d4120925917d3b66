"""class_order, unit_rows and mean_loss as Triton kernels against the reference; run by test_triton.py as
triton_cases.py is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch

from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.unit_rows import unit_rows
from tests.support.op_checks import (
    Arguments,
    Budget,
    Op,
    check_numerical_gradients,
    check_same,
    check_strided,
    check_values,
    evaluate,
)
from tests.support.ops import CLASS_ORDER, MEAN_LOSS, UNIT_ROWS
from tests.support.ops.small_ops import FORMULAS, loss_arguments, rows
from tests.support.problems import check_class_order
from tests.triton_kernels.on_triton import DEVICE, poisoned_memory, triton_backend  # noqa: F401

CASES = (
    CLASS_ORDER,
    replace(UNIT_ROWS, budget=Budget(1e-12, 2e-6, factor=2.0, smallest=1e-3)),
    replace(MEAN_LOSS, budget=Budget(1e-13, 2e-6, factor=2.0)),
)
every_op = pytest.mark.parametrize("op", CASES, ids=lambda op: op.name)


@pytest.mark.parametrize(
    ("op", "make"),
    [pytest.param(op, make, id=f"{op.name}-{name}") for op in CASES for name, make in op.problems.items()],
)
def test_values_and_gradients(op: Op, make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check_values(op, arguments, device=DEVICE)


@every_op
def test_non_contiguous(op: Op) -> None:
    for make in op.small.values():
        check_strided(op, make(), DEVICE)


@every_op
def test_bitwise_repeatable(op: Op) -> None:
    for make in op.wide.values():
        first, again = (evaluate(op, make(), torch.float32, DEVICE) for _ in range(2))
        check_same(again, first, "again")


@pytest.mark.parametrize("op", [op for op in CASES if op.leaves], ids=lambda op: op.name)
def test_numerical_gradients(op: Op) -> None:
    for make in (op.smooth or op.small).values():
        check_numerical_gradients(op, make(), DEVICE)


# ---- class_order -------------------------------------------------------------------------------------------


def test_labels_at_the_ends_of_their_type() -> None:
    ends = torch.tensor([2**63 - 1, -(2**63), 0, -1, 2**63 - 1, 2**32, -(2**63), 2**31])
    check_class_order(ends.repeat(40).to(DEVICE))


def test_labels_with_gaps_between_them() -> None:
    check_class_order(torch.randint(0, 5, (300, 2), device=DEVICE)[:, 1])


# ---- unit_rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [5, 700])
def test_rows_whose_squares_overflow(size: int, dtype: torch.dtype) -> None:
    arguments = rows((6, size))
    x, order = arguments["x"], arguments["order"].to(DEVICE)
    huge = x.to(dtype) / x.abs().max() * torch.finfo(dtype).max * 0.9
    unit = unit_rows(huge.to(DEVICE), order).cpu()
    expected = torch.nn.functional.normalize(x)[arguments["order"]]
    torch.testing.assert_close(unit, expected.to(dtype), rtol=4 * torch.finfo(dtype).eps * size, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_in_its_row(value: float) -> None:
    x = torch.randn(4, 600, device=DEVICE)
    x[2, 520] = value
    unit = unit_rows(x, torch.tensor([3, 2, 1, 0], device=DEVICE))
    assert unit.isnan().any(1).tolist() == [False, True, False, False]


# ---- mean_loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_more_anchors_than_a_block(formula: object) -> None:
    check_values(CASES[2], loss_arguments(formula, anchors=1100), device=DEVICE)


def test_losses_that_are_almost_nothing() -> None:
    """log(1 + e^L) is e^L there, and 1 + e^L is 1."""
    sums = torch.tensor([[-30.0, -31.0], [-40.0, -90.0]], dtype=torch.float64, device=DEVICE)
    formula = FORMULAS["MultiSimilarityLoss"]
    scales = torch.tensor([side.scale for side in formula.sigma], dtype=torch.float64)
    expected = (sums.cpu().exp().log1p() * scales).sum(1).mean()
    torch.testing.assert_close(mean_loss(sums, formula).cpu(), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("strength", [1e-320, 1 / 3, -(2.0**40)])
def test_the_strength_is_a_double(strength: float) -> None:
    sums = torch.zeros((1, 2), dtype=torch.float64, device=DEVICE)
    formula = FORMULAS["ContrastiveLoss"]
    assert mean_loss(sums, formula, sums + 0.5, strength).item() == strength


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_a_loss_that_is_not_finite(formula: object, value: float) -> None:
    sums = torch.zeros(3, 2, device=DEVICE)
    sums[1, 0] = value
    leaf = sums.requires_grad_()
    loss = mean_loss(leaf, formula)
    loss.backward()
    assert loss.isnan()
    assert leaf.grad.isnan().all(1).tolist() == [False, True, False]
