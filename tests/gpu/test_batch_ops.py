"""The ops around the sums on a device: class_order, unit_rows, mean_loss, gram, lambda."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch

import metrix_ext as mx
from metrix_ext.ops import pair_lambda
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.unit_rows import unit_rows
from tests.gpu.checks import check, on_cuda
from tests.support.compare import assert_near
from tests.support.op_checks import Arguments, Budget, Op
from tests.support.ops import CLASS_ORDER, GRAM, MEAN_LOSS, PAIR_LAMBDA, UNIT_ROWS
from tests.support.problems import check_class_order

pytestmark = on_cuda

BUDGETS = (
    (CLASS_ORDER, Budget(0.0, 0.0)),
    (UNIT_ROWS, Budget(1e-12, 1e-5, smallest=1e-3)),
    (MEAN_LOSS, Budget(1e-12, 1e-5)),
    (GRAM, Budget(1e-12, 1e-5)),
    (PAIR_LAMBDA, Budget(1e-12, 2e-7)),
)


@pytest.mark.parametrize(
    ("op", "budget", "make"),
    [
        pytest.param(op, budget, make, id=f"{op.name}-{name}")
        for op, budget in BUDGETS
        for name, make in op.problems.items()
    ],
)
def test_values_and_gradients(op: Op, budget: Budget, make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check(op, arguments, budget=budget)


def test_lambda_has_the_bits_of_the_cpu() -> None:
    ids = torch.cat((torch.randperm(300), torch.tensor([2**31, 2**40])))
    for dtype in (torch.float32, torch.float64):
        on_device = pair_lambda(9, ids.cuda(), ids.cuda(), 2.0, dtype).cpu()
        with mx.use_backend("cpu"):
            on_cpu = pair_lambda(9, ids, ids, 2.0, dtype)
        assert (on_device - on_cpu).abs().max() <= torch.finfo(dtype).eps


@pytest.mark.parametrize("n", [0, 1, 100, 5000])
def test_class_order(n: int) -> None:
    for low, high in ((-3, 30), (-(2**62), 2**62), (7, 8)):
        check_class_order(torch.randint(low, high, (n,), device="cuda"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (130, 65), (100, 512)])
def test_unit_rows_are_those_of_the_cpu(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, weights, order = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype), torch.randperm(shape[0])
    x[::3] *= 1e-14  # below the smallest norm
    results = []
    for device in ("cuda", "cpu"):
        leaf = x.to(device).requires_grad_()
        with mx.use_backend(device):
            unit = unit_rows(leaf, order.to(device))
            (unit * weights.to(device)).sum().backward()
        results.append((unit.detach(), leaf.grad))
    for actual, expected in zip(*results, strict=True):
        assert_near(actual, expected, 1e-13 if dtype == torch.float64 else 1e-5, smallest=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("loss", ["ContrastiveLoss", "LiftedStructureLoss", "NCALoss", "MultiSimilarityLoss"])
def test_mean_loss_is_that_of_the_cpu(loss: str, dtype: torch.dtype) -> None:
    formula = getattr(mx.losses, loss)().formula
    for anchors in (0, 1, 3000):
        clean, mixed = (9 * torch.randn(anchors, 2, dtype=dtype) for _ in range(2))
        if formula.exponential and anchors:
            clean[0, 1] = mixed[-1, 0] = -float("inf")
        results = []
        for device in ("cuda", "cpu"):
            leaves = [t.to(device).requires_grad_() for t in (clean, mixed)]
            with mx.use_backend(device):
                value = mean_loss(leaves[0], formula, leaves[1], 0.4)
                value.backward()
            results.append([value.detach(), *(leaf.grad for leaf in leaves)])
        for actual, expected in zip(*results, strict=True):
            assert_near(actual, expected, 1e-12 if dtype == torch.float64 else 1e-5, smallest=1e-12)
