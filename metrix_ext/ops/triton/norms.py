"""The gradient of squared norms, from what the programs of a gradient kernel have apart."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import OPTIONS, on_device

PARTS, COLUMNS = 32, 64  # of a tile, of which each thread has some parts of a column

SIZES = ["count", "n", "begin", "row_count", "row_parts", "stride"]


@triton.jit
def sum_of_parts(parts, count, size, k, inside, PARTS: tl.constexpr, COLUMNS: tl.constexpr):
    """Elements k of the sum over the first dimension of [count, size], in a fixed order."""
    total = tl.zeros((PARTS, COLUMNS), parts.dtype.element_ty)
    for begin in range(0, count, PARTS):
        part = begin + tl.arange(0, PARTS)[:, None]
        at = parts + part.to(tl.int64) * size + k[None, :]
        total += tl.load(at, mask=(part < count) & inside[None, :], other=0)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=SIZES)
def add_parts(
    of_columns, of_rows, target, count, n, row_parts, row_count, begin, stride, ADDS: tl.constexpr,
    PARTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """target [n], so far apart: the sums of [count, n], and of [row_parts, row_count] from begin on or None."""
    k = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = k < n
    total = sum_of_parts(of_columns, count, n, k, inside, PARTS, COLUMNS)
    if of_rows is not None:
        row = k - begin
        is_row = (row >= 0) & (row < row_count)
        total += sum_of_parts(of_rows, row_parts, row_count, row, is_row, PARTS, COLUMNS)
    at = target + k * stride
    if ADDS:
        total += tl.load(at, mask=inside, other=0)
    tl.store(at, total, mask=inside)


def add_norm_parts(of_columns: Tensor, of_rows: Tensor | None, begin: int, target: Tensor, on_diagonal: bool) -> None:
    """Adds parts up in target: into a vector [n], or onto the diagonal of a matrix [n, n].

    Args:
        of_columns: [parts, n].
        of_rows: [parts, rows], of elements from ``begin`` on.
    """
    count, n = of_columns.shape
    row_parts, row_count = (0, 0) if of_rows is None else of_rows.shape
    sizes = count, n, row_parts, row_count, begin, n + 1 if on_diagonal else 1
    if n:
        with on_device(target):
            add_parts[(triton.cdiv(n, COLUMNS),)](
                of_columns, of_rows, target, *sizes, on_diagonal, PARTS, COLUMNS, **OPTIONS
            )
