"""Launches of pair_sums and its gradients. Arguments and results are those of the two ops."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from .launch import OPTIONS, constants, on_device
from .products import merge_cells, product_cells, product_norm_gradient, product_similarity_gradient
from .rows import row_gradients, row_sums

PRODUCTS = ("pos-neg", "pos-pos", "neg-neg")

# [rows, columns] of a tile, with whole columns for each of the 128 threads: one, or four side by side that it loads at
# once.
PRODUCT_TILE = 8, 128
ROW_TILE = 2, 512

# Few anchors do not fill a device with one program each, so the tiles of each are shared out in slices.
PROGRAMS = 1024
MOST_SLICES = 16
ANCHORS_PER_BLOCK = 64


def pair_sums(similarity: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """sums, rest [m, 2]."""
    (m, n), dtype, device = similarity.shape, similarity.dtype, similarity.device
    sums, rest = (torch.empty((m, 2), dtype=dtype, device=device) for _ in range(2))
    *others, first_row = _from_diagonals(similarity, args)
    tensors, own_row, variant = _arguments(similarity, *others)
    exponential, rho = variant["EXPONENTIAL"], tensors[4]
    if m == 0:
        return sums, rest
    with on_device(similarity):
        if variant["PAIRS"] in PRODUCTS:
            slices = _slices(m, n, variant["COLUMNS"])
            cells = torch.empty((m, 2, slices, 2), dtype=dtype, device=device)
            product_cells[(m, slices)](*tensors, cells, n, first_row, slices, **variant)
            merge_cells[(m,)](cells, rho, sums, rest, slices, exponential, MOST_SLICES, num_warps=1)
        else:
            row_sums[(m,)](*tensors, *own_row, sums, rest, n, **variant)
    return sums, rest


def pair_sums_backward(
    grad_sums: Tensor, sums: Tensor, rest: Tensor, similarity: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    """Gradients of similarity, gram, sqnorm, self_similarity, self_sqnorm; empty where there is no input."""
    m, n = similarity.shape
    *others, first_row = _from_diagonals(similarity, args)
    tensors, own_row, variant = _arguments(similarity, *others)
    tensors = (*_contiguous((sums, rest, grad_sums)), *tensors)
    gram, sqnorm = tensors[-2:]

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=similarity.dtype, device=similarity.device)

    d_gram, d_sqnorm, d_self_similarity, d_self_sqnorm = (
        empty(0) if t is None else empty(*t.shape) for t in (gram, sqnorm, *own_row)
    )
    with on_device(similarity):
        if variant["PAIRS"] in PRODUCTS:
            # Examples that are in no pair of an anchor are left out by the kernels.
            d_similarity = empty(m, n).zero_()
            for of_first in (False, True):
                if m:
                    slices = _slices(m, n, variant["ROWS" if of_first else "COLUMNS"])
                    product_similarity_gradient[(m, slices)](
                        *tensors, d_similarity, n, first_row, slices, of_first, **variant
                    )
            if gram is not None:
                rows = len(gram)
                grid = triton.cdiv(rows, variant["ROWS"]), triton.cdiv(n, variant["COLUMNS"])
                of_firsts, of_seconds = empty(grid[1], rows), empty(grid[0], n)
                if gram.numel():
                    product_norm_gradient[grid](
                        *tensors,
                        d_gram,
                        of_firsts,
                        of_seconds,
                        m,
                        n,
                        first_row,
                        rows,
                        **variant,
                        ANCHORS=ANCHORS_PER_BLOCK,
                    )
                d_sqnorm = of_seconds.sum(0)
                d_sqnorm[first_row : first_row + rows] += of_firsts.sum(0)
        else:
            d_similarity = empty(m, n)
            of_anchors = empty(0) if gram is None else empty(m, n)
            if m:
                row_gradients[(m,)](
                    *tensors,
                    *own_row,
                    d_similarity,
                    d_gram,
                    of_anchors,
                    d_self_similarity,
                    d_self_sqnorm,
                    n,
                    **variant,
                )
            if gram is not None:
                d_sqnorm = of_anchors.sum(0)
    return _onto_diagonals((d_similarity, d_gram, d_sqnorm, d_self_similarity, d_self_sqnorm), args)


def _from_diagonals(similarity: Tensor, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with what the diagonals of similarity and gram say of what is not given."""
    *before, gram, sqnorm, self_similarity, self_sqnorm, first_row = args
    norms = None if gram is None else gram.diagonal() if sqnorm is None else sqnorm
    if self_similarity is None and before[4].startswith("anc-"):
        self_similarity, self_sqnorm = similarity.diagonal(), None if gram is None else gram.diagonal()
    return (*before, gram, norms, self_similarity, self_sqnorm, first_row)


def _onto_diagonals(gradients: tuple[Tensor, ...], args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Adds the gradients of what came from diagonals to them."""
    of_similarity, of_gram, *others = gradients
    for k, (given, matrix) in enumerate(zip(args[-4:-1], (of_gram, of_similarity, of_gram), strict=True)):
        if given is None and others[k].numel():
            matrix.diagonal().add_(others[k])
            others[k] = matrix.new_empty(0)
    return (of_similarity, of_gram, *others)


def _arguments(
    similarity: Tensor,
    positives: Tensor,
    self_index: Tensor,
    mask: Tensor | None,
    _anchors_in_order: bool,
    pairs: str,
    exponential: bool,
    rho: list[float],
    lam: Tensor | None,
    gram: Tensor | None,
    sqnorm: Tensor | None,
    self_similarity: Tensor | None,
    self_sqnorm: Tensor | None,
) -> tuple[tuple[Tensor | None, ...], tuple[Tensor | None, ...], dict[str, Any]]:
    """The tensors that all kernels take, those of anchors as sources, and what a kernel is compiled for."""
    table = constants(tuple(rho), similarity.device)
    tensors = similarity, positives, self_index, mask, table, lam, gram, sqnorm
    own_row = self_similarity, self_sqnorm
    rows, columns = PRODUCT_TILE if pairs in PRODUCTS else ROW_TILE
    variant = {
        "PAIRS": pairs,
        "EXPONENTIAL": exponential,
        "ONE_LAMBDA": lam is not None and lam.numel() == 1,
        "ROWS": rows,
        "COLUMNS": columns,
        **OPTIONS,
    }
    return _contiguous(tensors), _contiguous(own_row), variant


def _contiguous(tensors: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if t is None else t.contiguous() for t in tensors)


def _slices(anchors: int, examples: int, width: int) -> int:
    return max(1, min(MOST_SLICES, triton.cdiv(PROGRAMS, anchors), triton.cdiv(examples, width)))
