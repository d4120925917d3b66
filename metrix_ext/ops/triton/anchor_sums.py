"""anchor_sums: similarities by tiles of mixes x anchors, where any of the anchors uses any of the mixes.

In the order of their classes 16 anchors share most of their mixes, and consecutive mixes share their anchors, so few
tiles are computed; a tile is a product in full precision. Forward and for the gradient of the anchors a program has a
block of anchors and walks the mixes, for that of the mixes the other way round; each computes its similarities again.
A NaN in an anchor also reaches the gradients of other mixes in a tile.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..arguments import AnchorSumsArguments
from .formulas import (
    SMALLEST_NORM,
    add_to_both_sides,
    at_least,
    empty_cells,
    is_member,
    load_rho,
    load_upstream,
    slope_of_tile,
    weights_of_tile,
)
from .launch import OPTIONS, constants, has_margins, on_device
from .products import merge_cells

# Anchors and mixes of a tile, and bytes of embeddings in a step of a product and in the registers of a gradient.
ANCHORS, MIXES, BACKWARD_MIXES = 16, 64, 16
DEPTH_BYTES, MOST_WIDTH_BYTES = 128, 1024

# Few blocks of anchors do not fill a device, so the mixes are shared out in slices.
PROGRAMS = 1024
MOST_SLICES = 64

# Chunks of a list differ in these; only the size of an embedding makes loads faster where it is a multiple of 16.
COUNTS = ["count", "m", "n", "slices"]


@triton.jit
def anchors_of_block(anchor_order, block, m, ANCHORS: tl.constexpr):
    """A block of anchors in the order of their classes, past the last one the last again, and which exist."""
    place = block.to(tl.int64) * ANCHORS + tl.arange(0, ANCHORS)
    a = tl.minimum(place, m - 1)
    if anchor_order is not None:
        a = tl.load(anchor_order + a)
    return a, place < m


@triton.jit
def mixes_of_tile(tile, count, MIXES: tl.constexpr):
    """The mixes of a tile, past the last one the last again, and which exist."""
    place = (tl.zeros((MIXES,), tl.int64) + tile) * MIXES + tl.arange(0, MIXES)
    return tl.minimum(place, count - 1), place < count


@triton.jit
def uses_ordered(positives, own, mask, a, i, j, inside, n, PAIRS: tl.constexpr):
    """Whether (i, j) is in M(a) with i as the first."""
    if PAIRS == "anc-neg" or PAIRS == "anc-pos":
        is_first = inside & (tl.load(own + a) == i)
    else:
        is_first = is_member(positives, own, mask, a, i, inside, n, PAIRS != "neg-neg")
    return is_first & is_member(positives, own, mask, a, j, inside, n, PAIRS == "pos-pos" or PAIRS == "anc-pos")


@triton.jit
def labels_of_tile(
    positives, own, mask, first, second, lam, q, a, inside, n, PAIRS: tl.constexpr, BOTH_ORDERS: tl.constexpr
):
    """Which anchors use which mixes, [MIXES, ANCHORS], and the label of a mix for the anchor where it does, else 0."""
    i, j, weight = tl.load(first + q)[:, None], tl.load(second + q)[:, None], tl.load(lam + q)[:, None]
    a = a[None, :]
    forward = uses_ordered(positives, own, mask, a, i, j, inside, n, PAIRS)
    used = forward
    if BOTH_ORDERS:
        used = forward | uses_ordered(positives, own, mask, a, j, i, inside, n, PAIRS)
    return used, tl.where(used, tl.where(forward, weight, 1 - weight), 0)


@triton.jit
def any_of_tile(used):
    return tl.max(tl.max(used.to(tl.int32), 1), 0) > 0


@triton.jit
def inverse_norms(norms, q, dtype: tl.constexpr):
    """1 / max(|z|, 1e-12) of mixes q, NaN of an infinite norm; or 1 where they are taken as they are."""
    if norms is None:
        inverse = tl.full(q.shape, 1, dtype)
    else:
        norm = tl.load(norms + q)
        inverse = 1 / at_least(norm, SMALLEST_NORM) + 0 * norm  # NaN of NaN and infinity
    return inverse


@triton.jit
def similarities(mixed, norms, anchors, q, a, size, MIXES: tl.constexpr, ANCHORS: tl.constexpr, DEPTH: tl.constexpr):
    """s [MIXES, ANCHORS], and the inverse norms [MIXES, 1] that are a factor of it, or 1."""
    dtype: tl.constexpr = anchors.dtype.element_ty
    s = tl.zeros((MIXES, ANCHORS), dtype)
    for begin in range(0, size, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        z = tl.load(mixed + q[:, None] * size + k[None, :], mask=k[None, :] < size, other=0).to(dtype)
        x = tl.load(anchors + a[None, :] * size + k[:, None], mask=k[:, None] < size, other=0)
        s = tl.dot(z, x, s, input_precision="ieee", out_dtype=dtype)
    inverse = inverse_norms(norms, q, dtype)[:, None]
    return s * inverse, inverse


@triton.jit(do_not_specialize=COUNTS)
def anchor_cells(
    mixed, norms, anchors, positives, own, mask, anchor_order, first, second, lam, rho, cells, count, m, n, size,
    slices, PAIRS: tl.constexpr, BOTH_ORDERS: tl.constexpr, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr,
    ANCHORS: tl.constexpr, MIXES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """cells [m, 2, slices, 2]: shift and total of each side over the tiles of a slice of the mixes."""
    part = tl.program_id(1)
    dtype: tl.constexpr = anchors.dtype.element_ty
    a, exists = anchors_of_block(anchor_order, tl.program_id(0), m, ANCHORS)
    positive_rho = load_rho(rho, 0, EXPONENTIAL, dtype)
    negative_rho = load_rho(rho, 1, EXPONENTIAL, dtype)
    positive_shift, positive_total = empty_cells(ANCHORS, EXPONENTIAL, dtype)
    negative_shift, negative_total = empty_cells(ANCHORS, EXPONENTIAL, dtype)
    for tile in range(part, tl.cdiv(count, MIXES), slices):
        q, listed = mixes_of_tile(tile, count, MIXES)
        inside = listed[:, None] & exists[None, :]
        used, weight = labels_of_tile(positives, own, mask, first, second, lam, q, a, inside, n, PAIRS, BOTH_ORDERS)
        if any_of_tile(used):
            s, _inverse = similarities(mixed, norms, anchors, q, a, size, MIXES, ANCHORS, DEPTH)
            s = tl.where(used, s, 0)
            positive, negative = weights_of_tile(used, weight, PAIRS)
            positive_shift, positive_total, negative_shift, negative_total = add_to_both_sides(
                positive_shift, positive_total, negative_shift, negative_total, s, positive, negative,
                positive_rho, negative_rho, EXPONENTIAL, MARGINS,
            )  # fmt: skip
    cell = cells + (a * 2 * slices + part) * 2
    tl.store(cell, positive_shift, mask=exists)
    tl.store(cell + 1, positive_total, mask=exists)
    cell += 2 * slices
    tl.store(cell, negative_shift, mask=exists)
    tl.store(cell + 1, negative_total, mask=exists)


@triton.jit
def slopes(
    sums, grad_sums, mixed, norms, anchors, rho, q, a, used, weight, size, PAIRS: tl.constexpr,
    EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr, MIXES: tl.constexpr, ANCHORS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """dE/d<z, a> of a tile, 0 where an anchor does not use a mix, and dE/ds s."""
    dtype: tl.constexpr = anchors.dtype.element_ty
    s, inverse = similarities(mixed, norms, anchors, q, a, size, MIXES, ANCHORS, DEPTH)
    s = tl.where(used, s, 0)
    ds = slope_of_tile(
        s,
        used,
        weight,
        load_rho(rho, 0, EXPONENTIAL, dtype),
        load_rho(rho, 1, EXPONENTIAL, dtype),
        load_upstream(sums, None, grad_sums, rho, a[None, :], 0, EXPONENTIAL),
        load_upstream(sums, None, grad_sums, rho, a[None, :], 1, EXPONENTIAL),
        PAIRS,
        EXPONENTIAL,
        MARGINS,
    )
    ds = tl.where(used, ds, 0)
    return ds * inverse, ds * s


@triton.jit
def add_product(x, y, sum, dtype: tl.constexpr):
    """sum + x y. In float64 without tl.dot, of whose operands in registers Triton 3.6 makes no code for a GPU."""
    if dtype == tl.float64:
        return sum + tl.sum(x[:, :, None] * y[None, :, :], 1)
    else:
        return tl.dot(x, y, sum, input_precision="ieee", out_dtype=dtype)


@triton.jit(do_not_specialize=COUNTS)
def anchor_gradients(
    sums, grad_sums, mixed, norms, anchors, positives, own, mask, anchor_order, first, second, lam, rho, parts, count,
    m, n, size, slices, PAIRS: tl.constexpr, BOTH_ORDERS: tl.constexpr, EXPONENTIAL: tl.constexpr,
    MARGINS: tl.constexpr, ANCHORS: tl.constexpr, MIXES: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """parts [slices, m, d]: what the tiles of a slice of the mixes add to the gradient of a block of anchors."""
    part = tl.program_id(1)
    dtype: tl.constexpr = anchors.dtype.element_ty
    a, exists = anchors_of_block(anchor_order, tl.program_id(0), m, ANCHORS)
    k = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    gradient = tl.zeros((ANCHORS, WIDTH), dtype)
    for tile in range(part, tl.cdiv(count, MIXES), slices):
        q, listed = mixes_of_tile(tile, count, MIXES)
        inside = listed[:, None] & exists[None, :]
        used, weight = labels_of_tile(positives, own, mask, first, second, lam, q, a, inside, n, PAIRS, BOTH_ORDERS)
        if any_of_tile(used):
            slope, _moment = slopes(
                sums, grad_sums, mixed, norms, anchors, rho, q, a, used, weight, size, PAIRS, EXPONENTIAL,
                MARGINS, MIXES, ANCHORS, DEPTH,
            )  # fmt: skip
            z = tl.load(mixed + q[:, None] * size + k[None, :], mask=k[None, :] < size, other=0).to(dtype)
            gradient = add_product(tl.trans(slope), z, gradient, dtype)
    at = (part.to(tl.int64) * m + a)[:, None] * size + k[None, :]
    tl.store(parts + at, gradient, mask=exists[:, None] & (k[None, :] < size))


@triton.jit
def blocks_of_anchors(anchors_of, examples, ANCHORS: tl.constexpr):
    """The first and one past the last block with the anchors of some examples' classes."""
    begin = tl.min(tl.load(anchors_of + 2 * examples), 0)
    end = tl.max(tl.load(anchors_of + 2 * examples + 1), 0)
    return begin // ANCHORS, tl.cdiv(end, ANCHORS)


@triton.jit(do_not_specialize=COUNTS)
def mixed_gradients(
    sums, grad_sums, mixed, norms, anchors, positives, own, mask, anchor_order, first, second, lam, rho, anchors_of,
    grad_mixed, count, m, n, size, PAIRS: tl.constexpr, BOTH_ORDERS: tl.constexpr, EXPONENTIAL: tl.constexpr,
    MARGINS: tl.constexpr, ANCHORS: tl.constexpr, MIXES: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """grad_mixed [p, d] of a tile of the mixes."""
    dtype: tl.constexpr = anchors.dtype.element_ty
    q, listed = mixes_of_tile(tl.program_id(0), count, MIXES)
    k = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    gradient = tl.zeros((MIXES, WIDTH), dtype)
    moment = tl.zeros((MIXES,), dtype)
    # The blocks with anchors of the firsts' classes, then those with anchors of the seconds' and not of the firsts'.
    begin, end = tl.full((), 0, tl.int64), tl.cdiv(m, ANCHORS).to(tl.int64)
    other_begin, other_end = begin, begin
    if anchors_of is not None:
        begin, end = blocks_of_anchors(anchors_of, tl.load(first + q), ANCHORS)
        other_begin, other_end = blocks_of_anchors(anchors_of, tl.load(second + q), ANCHORS)
    for step in range(end - begin + other_end - other_begin):
        block = tl.where(step < end - begin, begin + step, other_begin + step - (end - begin))
        is_new = (step < end - begin) | (block < begin) | (block >= end)
        a, exists = anchors_of_block(anchor_order, block, m, ANCHORS)
        inside = listed[:, None] & exists[None, :]
        used, weight = labels_of_tile(positives, own, mask, first, second, lam, q, a, inside, n, PAIRS, BOTH_ORDERS)
        if is_new & any_of_tile(used):
            slope, slope_moment = slopes(
                sums, grad_sums, mixed, norms, anchors, rho, q, a, used, weight, size, PAIRS, EXPONENTIAL,
                MARGINS, MIXES, ANCHORS, DEPTH,
            )  # fmt: skip
            x = tl.load(anchors + a[:, None] * size + k[None, :], mask=k[None, :] < size, other=0)
            gradient = add_product(slope, x, gradient, dtype)
            moment += tl.sum(slope_moment, 1)
    at = q[:, None] * size + k[None, :]
    written = listed[:, None] & (k[None, :] < size)
    if norms is not None:
        inverse = inverse_norms(norms, q, dtype)
        # Below the smallest norm the norm is a constant.
        along = tl.where(tl.load(norms + q) < SMALLEST_NORM, 0, moment * inverse * inverse)
        gradient -= along[:, None] * tl.load(mixed + at, mask=written, other=0).to(dtype)
    tl.store(grad_mixed + at, gradient.to(grad_mixed.dtype.element_ty), mask=written)


def anchor_sums(a: AnchorSumsArguments) -> tuple[Tensor, Tensor]:
    """sums, nonzero [m, 2]."""
    tensors, sizes, variant = _arguments(a)
    m = len(a.anchors)
    sums = torch.empty((m, 2), dtype=a.anchors.dtype, device=a.anchors.device)
    nonzero = torch.zeros_like(sums)
    if m == 0:
        return sums, nonzero
    blocks = triton.cdiv(m, ANCHORS)
    slices = _slices(blocks, triton.cdiv(len(a.mixed), MIXES))
    cells = torch.empty((m, 2, slices, 2), dtype=a.anchors.dtype, device=a.anchors.device)
    with on_device(a.mixed):
        anchor_cells[(blocks, slices)](*tensors, cells, *sizes, slices, MIXES=MIXES, **variant)
        merge_cells[(m,)](
            cells, _rho(a), sums, None if a.exponential else nonzero, slices, a.exponential, MOST_SLICES, num_warps=1
        )
    return sums, nonzero


def anchor_sums_backward(grad_sums: Tensor, sums: Tensor, a: AnchorSumsArguments, grad_anchors: Tensor) -> Tensor:
    """The gradient of mixed; that of the anchors is added to grad_anchors."""
    tensors, sizes, variant = _arguments(a)
    (m, size), p = a.anchors.shape, len(a.mixed)
    grad_mixed = torch.empty((p, size), dtype=a.mixed.dtype, device=a.mixed.device)
    if m == 0 or grad_mixed.numel() == 0:
        return grad_mixed.zero_()
    anchors_of = None if a.anchors_of is None else a.anchors_of.contiguous()
    upstream = sums.contiguous(), grad_sums.contiguous()
    width = min(MOST_WIDTH_BYTES // a.anchors.itemsize, max(16, triton.next_power_of_2(size)))
    variant = {**variant, "MIXES": BACKWARD_MIXES, "WIDTH": width}
    blocks, tiles, widths = (triton.cdiv(*c) for c in ((m, ANCHORS), (p, BACKWARD_MIXES), (size, width)))
    slices = _slices(blocks * widths, tiles)
    parts = torch.empty((slices, m, size), dtype=a.anchors.dtype, device=a.anchors.device)
    with on_device(a.mixed):
        anchor_gradients[(blocks, slices, widths)](*upstream, *tensors, parts, *sizes, slices, **variant)
        mixed_gradients[(tiles, widths)](*upstream, *tensors, anchors_of, grad_mixed, *sizes, **variant)
    grad_anchors += parts.sum(0)
    return grad_mixed


def _arguments(
    a: AnchorSumsArguments,
) -> tuple[tuple[Tensor | None, ...], tuple[int, ...], dict[str, Any]]:
    """The tensors that all kernels take, the numbers p, m, n, d, and what a kernel is compiled for."""
    norms = torch.linalg.vector_norm(a.mixed, dim=1, dtype=a.lam.dtype) if a.normalize else None
    of_anchors = a.anchors, a.positives, a.self_index, a.mask, a.anchor_order
    tensors = a.mixed, norms, *of_anchors, a.first, a.second, a.lam, _rho(a)
    variant = {
        "PAIRS": a.pairs,
        "BOTH_ORDERS": a.both_orders,
        "EXPONENTIAL": a.exponential,
        "MARGINS": has_margins(a.rho),
        "ANCHORS": ANCHORS,
        "DEPTH": DEPTH_BYTES // a.anchors.itemsize,
        **OPTIONS,
    }
    contiguous = tuple(None if t is None else t.contiguous() for t in tensors)
    sizes = len(a.mixed), len(a.anchors), len(a.begin) - 1, a.anchors.shape[1]
    return contiguous, sizes, variant


def _rho(a: AnchorSumsArguments) -> Tensor:
    return constants(tuple(a.rho), a.mixed.device)


def _slices(blocks: int, tiles: int) -> int:
    return max(1, min(MOST_SLICES, triton.cdiv(PROGRAMS, blocks), tiles))
