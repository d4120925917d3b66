"""Launches of pair_sums and its gradients. Arguments and results are those of the two ops."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..arguments import PairSumsArguments
from .launch import OPTIONS, constants, on_device
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
    a = _from_diagonals(a)
    (m, n), dtype, device = a.similarity.shape, a.similarity.dtype, a.similarity.device
    sums, rest = (torch.empty((m, 2), dtype=dtype, device=device) for _ in range(2))
    tensors, own_row, variant = _arguments(a)
    if m == 0:
        return sums, rest
    with on_device(a.similarity):
        if a.pairs in PRODUCTS:
            slices = _slices(m, n, variant["COLUMNS"])
            cells = torch.empty((m, 2, slices, 2), dtype=dtype, device=device)
            product_cells[(m, slices)](*tensors, cells, n, a.first_row, slices, **variant)
            merge_cells[(m,)](cells, _rho(a), sums, rest, slices, a.exponential, MOST_SLICES, num_warps=1)
        else:
            row_sums[(m,)](*tensors, *own_row, sums, rest, n, **variant)
    return sums, rest


def pair_sums_backward(grad_sums: Tensor, sums: Tensor, rest: Tensor, given: PairSumsArguments) -> tuple[Tensor, ...]:
    """Gradients of similarity, gram, sqnorm, self_similarity, self_sqnorm; empty where there is no input."""
    a = _from_diagonals(given)
    arguments = _arguments(a)
    upstream = _contiguous((sums, rest, grad_sums))
    with on_device(a.similarity):
        gradients = (_product_gradients if a.pairs in PRODUCTS else _row_gradients)(a, upstream, *arguments)
    return _onto_diagonals(gradients, given)


def _product_gradients(
    a: PairSumsArguments, upstream: Tensors, tensors: Tensors, own_row: Tensors, variant: dict[str, Any]
) -> list[Tensor]:
    """Examples that are in no pair of an anchor are left out by the kernels."""
    m, n = a.similarity.shape
    tensors = *upstream, *tensors
    d_similarity, d_gram, d_sqnorm = _empty(a, m, n).zero_(), _empty_like(a, a.gram), _empty_like(a, a.sqnorm)
    for of_first in (False, True):
        if m:
            slices = _slices(m, n, variant["ROWS" if of_first else "COLUMNS"])
            product_similarity_gradient[(m, slices)](
                *tensors, d_similarity, n, a.first_row, slices, of_first, **variant
            )
    if a.gram is not None:
        rows = len(a.gram)
        grid = triton.cdiv(rows, variant["ROWS"]), triton.cdiv(n, variant["COLUMNS"])
        of_firsts, of_seconds = _empty(a, grid[1], rows), _empty(a, grid[0], n)
        if a.gram.numel():
            sizes = m, n, a.first_row, rows
            product_norm_gradient[grid](
                *tensors, d_gram, of_firsts, of_seconds, *sizes, **variant, ANCHORS=ANCHORS_PER_BLOCK
            )
        d_sqnorm = of_seconds.sum(0)
        d_sqnorm[a.first_row : a.first_row + rows] += of_firsts.sum(0)
    return [d_similarity, d_gram, d_sqnorm, *(_empty_like(a, t) for t in own_row)]


def _row_gradients(
    a: PairSumsArguments, upstream: Tensors, tensors: Tensors, own_row: Tensors, variant: dict[str, Any]
) -> list[Tensor]:
    m, n = a.similarity.shape
    d_similarity, d_gram, d_sqnorm = _empty(a, m, n), _empty_like(a, a.gram), _empty_like(a, a.sqnorm)
    d_own_row = [_empty_like(a, t) for t in own_row]
    of_anchors = _empty(a, 0) if a.gram is None else _empty(a, m, n)
    if m:
        row_gradients[(m,)](*upstream, *tensors, *own_row, d_similarity, d_gram, of_anchors, *d_own_row, n, **variant)
    if a.gram is not None:
        d_sqnorm = of_anchors.sum(0)
    return [d_similarity, d_gram, d_sqnorm, *d_own_row]


def _empty(a: PairSumsArguments, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=a.similarity.dtype, device=a.similarity.device)


def _empty_like(a: PairSumsArguments, tensor: Tensor | None) -> Tensor:
    return _empty(a, 0) if tensor is None else _empty(a, *tensor.shape)


def _from_diagonals(a: PairSumsArguments) -> PairSumsArguments:
    """The arguments with what the diagonals of similarity and gram say of what is not given."""
    norms = None if a.gram is None else a.gram.diagonal()
    if a.gram is None or a.sqnorm is None:
        a = a._replace(sqnorm=norms)
    if a.self_similarity is None and a.with_anchor:
        a = a._replace(self_similarity=a.similarity.diagonal(), self_sqnorm=norms)
    return a


def _onto_diagonals(gradients: list[Tensor], given: PairSumsArguments) -> tuple[Tensor, ...]:
    """Adds the gradients of what came from diagonals to them."""
    of_similarity, of_gram, *others = gradients
    sources = (given.sqnorm, of_gram), (given.self_similarity, of_similarity), (given.self_sqnorm, of_gram)
    for k, (argument, matrix) in enumerate(sources):
        if argument is None and others[k].numel():
            matrix.diagonal().add_(others[k])
            others[k] = matrix.new_empty(0)
    return (of_similarity, of_gram, *others)


def _arguments(a: PairSumsArguments) -> tuple[Tensors, Tensors, dict[str, Any]]:
    """The tensors that all kernels take, those of anchors as sources, and what a kernel is compiled for."""
    tensors = a.similarity, a.positives, a.self_index, a.mask, _rho(a), a.lam, a.gram, a.sqnorm
    rows, columns = PRODUCT_TILE if a.pairs in PRODUCTS else ROW_TILE
    variant = {
        "PAIRS": a.pairs,
        "EXPONENTIAL": a.exponential,
        "ONE_LAMBDA": a.lam_is_scalar,
        "ROWS": rows,
        "COLUMNS": columns,
        **OPTIONS,
    }
    return _contiguous(tensors), _contiguous((a.self_similarity, a.self_sqnorm)), variant


def _rho(a: PairSumsArguments) -> Tensor:
    return constants(tuple(a.rho), a.similarity.device)


def _contiguous(tensors: Tensors) -> Tensors:
    return tuple(None if t is None else t.contiguous() for t in tensors)


def _slices(anchors: int, examples: int, width: int) -> int:
    return max(1, min(MOST_SLICES, triton.cdiv(PROGRAMS, anchors), triton.cdiv(examples, width)))
