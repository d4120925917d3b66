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
from tests.support.compare import assert_near
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

OPS = (
    CLASS_ORDER,
    replace(UNIT_ROWS, budget=Budget(1e-12, 2e-6, factor=2.0, smallest=1e-3)),
    replace(MEAN_LOSS, budget=Budget(1e-13, 2e-6, factor=2.0)),
)
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@pytest.mark.parametrize(
    ("op", "make"),
    [pytest.param(op, make, id=f"{op.name}-{name}") for op in OPS for name, make in op.problems.items()],
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
