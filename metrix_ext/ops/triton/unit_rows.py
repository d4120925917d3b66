"""unit_rows: x / |x| by rows in a given order, and its gradient. A program takes a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .formulas import SMALLEST_NORM, at_least
from .launch import OPTIONS, on_device

COLUMNS = 512  # of a row that are loaded at once


@triton.jit
def square_of_row(row, scale, columns, COLUMNS: tl.constexpr):
    """|row / scale|^2."""
    squares = tl.zeros((COLUMNS,), row.dtype.element_ty)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        x = tl.load(row + column, mask=column < columns, other=0) / scale
        squares += x * x
    return tl.sum(squares, 0)


@triton.jit
def largest_of_row(row, columns, COLUMNS: tl.constexpr):
    """The largest absolute value of numbers of which none is NaN."""
    largest = tl.zeros((COLUMNS,), row.dtype.element_ty)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        largest = tl.maximum(largest, tl.abs(tl.load(row + column, mask=column < columns, other=0)))
    return tl.max(largest, 0)


@triton.jit
def unit_row(x, order, unit, norm, columns, COLUMNS: tl.constexpr):
    """unit [n, d] and norm [n] = max(|x|, 1e-12), both in the order of the result."""
    row = tl.program_id(0).to(tl.int64)
    source = x + tl.load(order + row) * columns
    scale = tl.full((), 1, x.dtype.element_ty)
    square = square_of_row(source, scale, columns, COLUMNS)
    if square == float("inf"):  # squares overflow: divide by the largest number first, unless that is infinite, too
        largest = largest_of_row(source, columns, COLUMNS)
        if largest < float("inf"):
            scale = largest
            square = square_of_row(source, scale, columns, COLUMNS)
    length = at_least(tl.sqrt(square), SMALLEST_NORM)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        inside = column < columns
        tl.store(unit + row * columns + column, tl.load(source + column, mask=inside) / scale / length, mask=inside)
    tl.store(norm + row, scale * length)


@triton.jit
def unit_row_gradient(grad_unit, unit, norm, order, grad_x, columns, COLUMNS: tl.constexpr):
    """grad_x [n, d] = (dy - <y, dy> y) / |x|, in the order of x."""
    row = tl.program_id(0).to(tl.int64)
    unit += row * columns
    grad_unit += row * columns
    target = grad_x + tl.load(order + row) * columns
    length = tl.load(norm + row)
    products = tl.zeros((COLUMNS,), unit.dtype.element_ty)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        y = tl.load(unit + column, mask=column < columns, other=0)
        products += y * tl.load(grad_unit + column, mask=column < columns, other=0)
    # At the smallest norm it is a constant.
    along = tl.where(length > tl.full((), SMALLEST_NORM, length.dtype), tl.sum(products, 0), 0)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        inside = column < columns
        y, dy = tl.load(unit + column, mask=inside), tl.load(grad_unit + column, mask=inside)
        tl.store(target + column, (dy - along * y) / length, mask=inside)


def unit_rows(x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """unit [n, d], norm [n], as the op; everything is contiguous."""
    rows, columns = x.shape
    unit, norm = torch.empty_like(x), torch.empty(rows, dtype=x.dtype, device=x.device)
    if rows:
        with on_device(x):
            unit_row[(rows,)](x, order, unit, norm, columns, COLUMNS, **OPTIONS)
    return unit, norm


def unit_rows_backward(grad_unit: Tensor, unit: Tensor, norm: Tensor, order: Tensor) -> Tensor:
    """grad_x [n, d], as the op; everything is contiguous."""
    rows, columns = unit.shape
    grad_x = torch.empty_like(unit)
    if grad_x.numel():
        with on_device(unit):
            unit_row_gradient[(rows,)](grad_unit, unit, norm, order, grad_x, columns, COLUMNS, **OPTIONS)
    return grad_x
