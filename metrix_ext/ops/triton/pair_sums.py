"""Launches of pair_sums and its gradients. Arguments, all contiguous, and results are those of the two ops."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..arguments import PairSumsArguments
from .launch import OPTIONS, constants, has_margins, on_device
from .norms import add_norm_parts
from .products import merge_cells, product_cells, product_norm_gradient, product_similarity_gradient
from .rows import row_gradients, row_sums

Tensors = tuple[Tensor | None, ...]

PRODUCTS = ("pos-neg", "pos-pos", "neg-neg")

# [rows, columns] of a tile, with whole columns for each of the 128 threads: one, or four side by side that it loads at
# once.
PRODUCT_TILE = 8, 128
ROW_TILE = 2, 512

# Few anchors do not fill a device with one program each, so the tiles of each are shared out in slices.
PROGRAMS = 1024
MOST_SLICES = 16
ANCHORS_PER_BLOCK = 64


def pair_sums(a: PairSumsArguments) -> tuple[Tensor, Tensor]:
    """sums, rest [m, 2]."""
    m, n = a.similarity.shape
    sums, rest = _empty(a, m, 2), _empty(a, m, 2)
    variant = _variant(a)
    if m == 0:
        return sums, rest
    with on_device(a.similarity):
        if a.pairs in PRODUCTS:
            slices = _slices(m, n, variant["COLUMNS"])
            cells = _empty(a, m, 2, slices, 2)
            product_cells[(m, slices)](*_tensors(a), cells, n, a.first_row, _sqnorm_stride(a), slices, **variant)
            merge_cells[(m,)](cells, _rho(a), sums, rest, slices, a.exponential, MOST_SLICES, num_warps=1)
        else:
            strides = _sqnorm_stride(a), _self_stride(a)
            row_sums[(m,)](*_tensors(a), *_own_numbers(a), sums, rest, n, *strides, **variant)
    return sums, rest


def pair_sums_backward(
    grad_sums: Tensor, sums: Tensor, rest: Tensor, a: PairSumsArguments, onto: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Gradients of similarity, gram, sqnorm, self_similarity, self_sqnorm; empty where there is no input.

    Args:
        onto: what the gradient of similarity is added to, in place: that of other sums.
    """
    of_gram, of_sqnorm, of_own, of_own_norm = gradients = [
        _empty(a, *(0,) if t is None else t.shape) for t in (a.gram, a.sqnorm, a.self_similarity, a.self_sqnorm)
    ]
    upstream = sums, rest, grad_sums
    with on_device(a.similarity):
        if a.pairs in PRODUCTS:
            of_similarity = torch.zeros_like(a.similarity) if onto is None else onto
            _product_gradients(a, upstream, of_similarity, of_gram, of_sqnorm)
        else:
            of_similarity = torch.empty_like(a.similarity) if onto is None else onto
            own = (None, None) if a.self_similarity is None else (of_own, of_own_norm)
            _row_gradients(a, upstream, of_similarity, of_gram, of_sqnorm, own, onto is not None)
    return of_similarity, *gradients


def _product_gradients(
    a: PairSumsArguments, upstream: Tensors, of_similarity: Tensor, of_gram: Tensor, of_sqnorm: Tensor
) -> None:
    """Adds to of_similarity; examples that are in no pair of an anchor are left out by the kernels."""
    m, n = a.similarity.shape
    tensors, variant = (*upstream, *_tensors(a)), _variant(a)
    for of_first in (False, True):
        if m:
            slices = _slices(m, n, variant["ROWS" if of_first else "COLUMNS"])
            sizes = n, a.first_row, _sqnorm_stride(a), slices
            product_similarity_gradient[(m, slices)](*tensors, of_similarity, *sizes, of_first, **variant)
    if a.gram is None or n == 0:
        return
    rows = len(a.gram)
    grid = triton.cdiv(rows, variant["ROWS"]), triton.cdiv(n, variant["COLUMNS"])
    of_firsts, of_seconds = _empty(a, grid[1], rows), _empty(a, grid[0], n)
    if rows:
        counts = m, n, a.first_row, rows, _sqnorm_stride(a)
        product_norm_gradient[grid](
            *tensors, of_gram, of_firsts, of_seconds, *counts, **variant, ANCHORS=ANCHORS_PER_BLOCK
        )
    _add_to_norms(a, of_seconds, of_firsts, of_gram, of_sqnorm)


def _row_gradients(
    a: PairSumsArguments,
    upstream: Tensors,
    of_similarity: Tensor,
    of_gram: Tensor,
    of_sqnorm: Tensor,
    of_own_numbers: Tensors,
    adds: bool,
) -> None:
    m, n = a.similarity.shape
    of_anchors = None if a.gram is None else _empty(a, m, n)
    if m:
        outputs = of_similarity, of_gram, of_anchors, *of_own_numbers
        strides = _sqnorm_stride(a), _self_stride(a)
        row_gradients[(m,)](*upstream, *_tensors(a), *_own_numbers(a), *outputs, n, *strides, **_variant(a), ADDS=adds)
    if of_anchors is not None:
        _add_to_norms(a, of_anchors, None, of_gram, of_sqnorm)


def _add_to_norms(
    a: PairSumsArguments, of_columns: Tensor, of_rows: Tensor | None, of_gram: Tensor, of_sqnorm: Tensor
) -> None:
    on_diagonal = a.sqnorm is None
    add_norm_parts(of_columns, of_rows, a.first_row, of_gram if on_diagonal else of_sqnorm, on_diagonal)


def _empty(a: PairSumsArguments, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=a.similarity.dtype, device=a.similarity.device)


# ---- what is not given is on the diagonals of similarity and gram ----------------------------------------------


def _tensors(a: PairSumsArguments) -> Tensors:
    """What all kernels take."""
    sqnorm = a.gram if a.sqnorm is None else a.sqnorm
    return a.similarity, a.positives, a.self_index, a.mask, _rho(a), a.lam, a.gram, sqnorm


def _own_numbers(a: PairSumsArguments) -> Tensors:
    """self_similarity and self_sqnorm."""
    return (a.similarity, a.gram) if a.self_similarity is None else (a.self_similarity, a.self_sqnorm)


def _sqnorm_stride(a: PairSumsArguments) -> int:
    return 1 if a.sqnorm is not None else a.similarity.shape[1] + 1


def _self_stride(a: PairSumsArguments) -> int:
    return 1 if a.self_similarity is not None else a.similarity.shape[1] + 1


# ---- what a kernel is compiled for -----------------------------------------------------------------------------


def _variant(a: PairSumsArguments) -> dict[str, Any]:
    rows, columns = PRODUCT_TILE if a.pairs in PRODUCTS else ROW_TILE
    return {
        "PAIRS": a.pairs,
        "EXPONENTIAL": a.exponential,
        "MARGINS": has_margins(a.rho),
        "ONE_LAMBDA": a.lam_is_scalar,
        "ROWS": rows,
        "COLUMNS": columns,
        **OPTIONS,
    }


def _rho(a: PairSumsArguments) -> Tensor:
    return constants(tuple(a.rho), a.similarity.device)


def _slices(anchors: int, examples: int, width: int) -> int:
    return max(1, min(MOST_SLICES, triton.cdiv(PROGRAMS, anchors), triton.cdiv(examples, width)))
