"""Embeddings in the order of the batch, l2-normalised: a gather and a norm in one pass each way."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import backend, native
from .checks.batch import check_unit_rows
from .launch import where
from .library import LIBRARY, implement, register_autograd


def unit_rows(x: Tensor, order: Tensor) -> Tensor:
    """Rows ``order`` of x, each divided by max(its norm, 1e-12).

    Args:
        x: [n, d] float32 or float64.
        order: [n] int64, a permutation of the rows.

    Returns:
        [n, d], what ``F.normalize(x)[order]`` is, for any finite numbers.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_unit_rows(x, order)
    if backend.choose(x.device) == "reference":
        return unit_norm(x).index_select(0, order)
    unit, _norm = _differentiable(x, order)
    return unit


def unit_norm(x: Tensor) -> Tensor:
    """Rows of x [n, d], each divided by max(its norm, 1e-12), also where the squares of its numbers overflow."""
    if x.numel() == 0:
        return F.normalize(x)
    largest = x.detach().abs().amax(1, keepdim=True)
    limit = torch.finfo(x.dtype).max ** 0.45  # the sum of 2^10 squares of it is finite
    return F.normalize(x / torch.where((largest > limit) & largest.isfinite(), largest, 1.0))


LIBRARY.define("unit_rows(Tensor x, Tensor order) -> (Tensor, Tensor)")
LIBRARY.define("unit_rows_backward(Tensor grad_unit, Tensor unit, Tensor norm, Tensor order) -> Tensor")


def _forward(x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    x, order = x.contiguous(), order.contiguous()
    if backend.choose(x.device) == "triton":
        from .triton import unit_rows as kernels

        return kernels.unit_rows(x, order)
    rows, columns = x.shape
    unit, norm = torch.empty_like(x), x.new_empty(rows)
    native.typed("unit_rows", x.dtype)(where(x), rows=rows, columns=columns, order=order, x=x, unit=unit, norm=norm)
    return unit, norm


def _gradient(grad_unit: Tensor, unit: Tensor, norm: Tensor, order: Tensor) -> Tensor:
    grad_unit, order = grad_unit.contiguous(), order.contiguous()
    if backend.choose(unit.device) == "triton":
        from .triton import unit_rows as kernels

        return kernels.unit_rows_backward(grad_unit, unit, norm, order)
    rows, columns = unit.shape
    grad_x = torch.empty_like(unit)
    native.typed("unit_rows_backward", unit.dtype)(
        where(unit),
        rows=rows,
        columns=columns,
        order=order,
        unit=unit,
        norm=norm,
        grad_unit=grad_unit,
        grad_x=grad_x,
    )
    return grad_x


@torch.library.register_fake("metrix_ext::unit_rows", lib=LIBRARY)
def _forward_fake(x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty((x.shape[0],))


@torch.library.register_fake("metrix_ext::unit_rows_backward", lib=LIBRARY)
def _backward_fake(grad_unit: Tensor, unit: Tensor, norm: Tensor, order: Tensor) -> Tensor:
    return unit.new_empty(unit.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output, inputs[1])


def _backward(ctx: Any, grad_unit: Tensor, _grad_norm: Tensor) -> tuple[Tensor, None]:
    return _run_backward(grad_unit, *ctx.saved_tensors), None


_run = implement("unit_rows", _forward)
_run_backward = implement("unit_rows_backward", _gradient)
_differentiable = register_autograd("unit_rows", _run, _setup_context, _backward)
