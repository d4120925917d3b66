"""mix_pool: a program has 16 consecutive mixes and a block of channels, and walks the positions.

Lanes own channels, so images are read with channels side by side: features laid out otherwise are copied once, which is
little beside n^2 mixes of them. Where the 16 mixes are 4 x 4 examples, 8 rows are loaded at a position instead of 32.

The backward pass has a program per example and block of channels, with a register for each position: a use adds to that
of its maximum, a comparison and a predicated multiply-add for each. That is work for all positions, but less than
forward has for a mix, and less than adding in global memory, where 32 lanes with 32 different maxima read and
write 32 sectors; nor does it depend on when a program's threads see its writes.
"""

# A kernel's tuples grow.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...terms.mixes import TILES, Mixes
from ..maps import strides
from .launch import OPTIONS, on_device

# Each of the 128 threads of a program has two channels forward, and backward one with a register for each position.
CHANNELS, BACKWARD_CHANNELS = 256, 128
MOST_POSITIONS = 64


@triton.jit
def load_rows(start, rows, channel, inside, dtype: tl.constexpr):
    """A tuple of the channels of some rows."""
    loaded = ()
    for k in tl.static_range(len(rows)):
        loaded += (tl.load(start + rows[k] + channel, mask=inside, other=0).to(dtype),)
    return loaded


@triton.jit
def pool_mixes(
    features, order, first, second, lam, averages, pooled, argmax, begin, count, channel, channels, positions,
    image_stride, position_stride, SIDE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Pools some consecutive mixes: SIDE x SIDE that are a tile, otherwise SIDE."""
    MIXES: tl.constexpr = SIDE * SIDE if TILE else SIDE
    dtype: tl.constexpr = lam.dtype.element_ty
    inside = channel < channels
    first_images, second_images, first_rows, second_rows = (), (), (), ()
    for k in tl.static_range(SIDE):
        i = tl.load(order + tl.load(first + tl.minimum(begin + (k * SIDE if TILE else k), count - 1)))
        j = tl.load(order + tl.load(second + tl.minimum(begin + k, count - 1)))
        first_images += (i,)
        second_images += (j,)
        first_rows += (i * image_stride,)
        second_rows += (j * image_stride,)
    weights, best, where = (), (), ()
    for k in tl.static_range(MIXES):
        weights += (tl.load(lam + tl.minimum(begin + k, count - 1)),)
        best += (tl.full(channel.shape, float("-inf"), dtype),)
        where += (tl.zeros(channel.shape, tl.int32),)
    start = features
    for position in range(positions):
        x = load_rows(start, first_rows, channel, inside, dtype)
        y = load_rows(start, second_rows, channel, inside, dtype)
        start += position_stride
        new_best, new_where = (), ()
        for k in tl.static_range(MIXES):
            # To take the larger weight out would save the product but cost a selection of each factor.
            value = weights[k] * x[k // SIDE if TILE else k] + (1 - weights[k]) * y[k % SIDE if TILE else k]
            if argmax is None:
                new_best += (tl.maximum(best[k], value, propagate_nan=tl.PropagateNan.ALL),)
            else:
                better = (value > best[k]) | (value != value)  # a NaN comes and stays
                new_best += (tl.where(better, value, best[k]),)
                new_where += (tl.where(better, position, where[k]),)
        best = new_best
        if argmax is not None:
            where = new_where
    for k in tl.static_range(MIXES):
        value = best[k]
        if averages is not None:
            i, j = first_images[k // SIDE if TILE else k], second_images[k % SIDE if TILE else k]
            value += weights[k] * tl.load(averages + i * channels + channel, mask=inside, other=0)
            value += (1 - weights[k]) * tl.load(averages + j * channels + channel, mask=inside, other=0)
        at = (begin + k) * channels + channel
        exists = channel < tl.where(begin + k < count, channels, 0)
        tl.store(pooled + at, value.to(pooled.dtype.element_ty), mask=exists)
        if argmax is not None:
            tl.store(argmax + at, where[k].to(tl.int16), mask=exists)


@triton.jit(do_not_specialize=["count"])
def pool_blocks(
    features, order, first, second, lam, averages, pooled, argmax, count, channels, positions, image_stride,
    position_stride, SIDE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """pooled and argmax [p, c] of SIDE x SIDE mixes; averages and argmax may be None."""
    # What is no tile is at the end of a list and takes longest, so the end comes first.
    begin = (tl.num_programs(0) - 1 - tl.program_id(0)).to(tl.int64) * (SIDE * SIDE)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_tile = begin + SIDE * SIDE <= count
    for k in tl.static_range(SIDE * SIDE):
        last = count - 1
        of_row, of_column = begin + k // SIDE * SIDE, begin + k % SIDE
        is_tile &= tl.load(first + tl.minimum(begin + k, last)) == tl.load(first + tl.minimum(of_row, last))
        is_tile &= tl.load(second + tl.minimum(begin + k, last)) == tl.load(second + tl.minimum(of_column, last))
    if is_tile:
        pool_mixes(
            features, order, first, second, lam, averages, pooled, argmax, begin, count, channel, channels, positions,
            image_stride, position_stride, SIDE, True,
        )  # fmt: skip
    else:
        for row in range(SIDE):
            pool_mixes(
                features, order, first, second, lam, averages, pooled, argmax, begin + row * SIDE, count, channel,
                channels, positions, image_stride, position_stride, SIDE, False,
            )  # fmt: skip


@triton.jit(do_not_specialize=["count"])
def add_uses(
    grad_pooled, argmax, order, lam, begin, uses, grad_features, grad_averages, count, channels, positions,
    image_stride, channel_stride, position_stride, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Adds to the gradients of an example what its uses give, in their order, at POSITIONS positions."""
    example = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    from_position = tl.program_id(2) * POSITIONS
    dtype: tl.constexpr = lam.dtype.element_ty
    inside = channel < channels
    total = tl.zeros((CHANNELS,), dtype)
    at_position = ()
    for _ in tl.static_range(POSITIONS):
        at_position += (total,)
    uses_begin, uses_end = tl.load(begin + example), tl.load(begin + example + 1)
    if uses_begin == uses_end:
        return
    for k in tl.range(uses_begin, uses_end, loop_unroll_factor=4):
        use = tl.load(uses + k)
        as_first = use < count
        mix = tl.where(as_first, use, use - count)
        weight = tl.load(lam + mix)
        at = mix * channels + channel
        gradient = tl.load(grad_pooled + at, mask=inside, other=0).to(dtype) * tl.where(as_first, weight, 1 - weight)
        maximum = tl.load(argmax + at, mask=inside, other=-1).to(tl.int32) - from_position
        total += gradient
        added = ()
        for x in tl.static_range(POSITIONS):
            added += (tl.where(maximum == x, at_position[x] + gradient, at_position[x]),)
        at_position = added
    image = tl.load(order + example)
    target = grad_features + image * image_stride + channel.to(tl.int64) * channel_stride
    for x in tl.static_range(POSITIONS):
        here = target + (from_position + x).to(tl.int64) * position_stride
        exists = channel < tl.where(from_position + x < positions, channels, 0)
        tl.store(here, tl.load(here, mask=exists, other=0) + at_position[x], mask=exists)
    if grad_averages is not None and tl.program_id(2) == 0:
        target = grad_averages + image * channels + channel
        tl.store(target, tl.load(target, mask=inside, other=0) + total, mask=inside)


def mix_pool(
    features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None, pooled: Tensor, argmax: Tensor | None
) -> None:
    """Writes pooled [p, c], and argmax [p, c] unless it is None. Features are copied unless they are channels_last."""
    channels, height, width = features.shape[1:]
    if pooled.numel() == 0:
        return
    features = features.contiguous(memory_format=torch.channels_last)
    grid = triton.cdiv(len(mixes), TILES[-1] ** 2), triton.cdiv(channels, CHANNELS)
    with on_device(features):
        pool_blocks[grid](
            features,
            *(t.contiguous() for t in (order, mixes.first, mixes.second, mixes.lam)),
            averages,
            pooled,
            argmax,
            len(mixes),
            channels,
            height * width,
            channels * height * width,
            channels,
            TILES[-1],
            CHANNELS,
            **OPTIONS,
        )


def mix_pool_backward(
    grad_pooled: Tensor,
    argmax: Tensor,
    order: Tensor,
    mixes: Mixes,
    grad_features: Tensor,
    grad_averages: Tensor | None,
) -> None:
    """Adds to grad_features, which is evenly spaced over positions, and to grad_averages, which is contiguous."""
    images, channels, height, width = grad_features.shape
    if grad_pooled.numel() == 0:
        return
    layout = strides(grad_features)
    assert layout is not None
    blocks = triton.cdiv(height * width, MOST_POSITIONS)
    grid = images, triton.cdiv(channels, BACKWARD_CHANNELS), blocks
    with on_device(grad_features):
        add_uses[grid](
            *(t.contiguous() for t in (grad_pooled, argmax, order, mixes.lam, mixes.begin, mixes.uses)),
            grad_features,
            grad_averages,
            len(mixes),
            channels,
            height * width,
            *layout,
            triton.cdiv(height * width, blocks),
            BACKWARD_CHANNELS,
            **OPTIONS,
        )
