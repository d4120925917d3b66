"""mean_loss: from the two sums of every anchor to the loss, in double precision; mirrors csrc/mean_loss.h.

Forward one program adds up all anchors, in an order that follows from their number; backward a program takes a block.
"""

from __future__ import annotations

import struct
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import OPTIONS, on_device

ANCHORS = 512  # of a program at once

# What is no variant of its own: a schedule of the strength changes it at every step.
NUMBERS = ["anchors", "strength", "positive_scale", "negative_scale"]


@triton.jit
def float64_of(bits):
    return bits.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def sigma_of_sum(value, scale, SIGMA: tl.constexpr):
    """sigma of one side, and its derivative by the sum."""
    if SIGMA == "log1p":
        power = tl.exp(-tl.abs(value))
        # log(1 + x) as log(u) x / (u - 1) with the rounded u: what rounding took is in both, and cancels.
        u = 1 + power
        log1p = tl.where(u == 1, power, tl.log(u) * (power / (u - 1)))
        result = scale * (log1p + tl.where(value < 0, 0, value))
        slope = scale * tl.where(value < 0, power, 1) / u
    else:
        result = scale * value
        slope = tl.zeros_like(value) + scale
    return result, slope


@triton.jit
def losses_of_anchors(sums, anchor, exists, scales, SIGMA: tl.constexpr, RELU: tl.constexpr):
    """The loss of every anchor and its derivatives by the two sums, all NaN where the loss is not finite."""
    positive = tl.load(sums + 2 * anchor, mask=exists, other=0).to(tl.float64)
    negative = tl.load(sums + 2 * anchor + 1, mask=exists, other=0).to(tl.float64)
    of_positive, positive_slope = sigma_of_sum(positive, scales[0], SIGMA)
    of_negative, negative_slope = sigma_of_sum(negative, scales[1], SIGMA)
    loss = of_positive + of_negative
    counts = exists
    if SIGMA == "log":  # an undefined logarithm: the anchor counts 0
        counts = counts & (positive != float("-inf")) & (negative != float("-inf"))
    if RELU:
        counts = counts & ~(loss <= 0)
    zero_or_nan = 0 * loss
    loss = tl.where(counts, loss + zero_or_nan, 0)
    return loss, tl.where(counts, positive_slope + zero_or_nan, 0), tl.where(counts, negative_slope + zero_or_nan, 0)


@triton.jit(do_not_specialize=NUMBERS)
def mean_of_anchors(
    clean, mixed, loss, anchors, strength: tl.int64, positive_scale: tl.int64, negative_scale: tl.int64,
    SIGMA: tl.constexpr, RELU: tl.constexpr, ANCHORS: tl.constexpr,
):  # fmt: skip
    """loss [1]; mixed may be None."""
    scales = float64_of(positive_scale), float64_of(negative_scale)
    total = tl.zeros((ANCHORS,), tl.float64)
    for begin in range(0, anchors, ANCHORS):
        anchor = begin + tl.arange(0, ANCHORS)
        value, _, _ = losses_of_anchors(clean, anchor, anchor < anchors, scales, SIGMA, RELU)
        total += value
        if mixed is not None:
            value, _, _ = losses_of_anchors(mixed, anchor, anchor < anchors, scales, SIGMA, RELU)
            total += float64_of(strength) * value
    mean = tl.sum(total, 0) / tl.maximum(anchors, 1).to(tl.float64)  # that of nobody is 0
    tl.store(loss, mean.to(loss.dtype.element_ty))


@triton.jit
def store_gradients(grad_sums, anchor, exists, factor, positive_slope, negative_slope):
    dtype: tl.constexpr = grad_sums.dtype.element_ty
    tl.store(grad_sums + 2 * anchor, (factor * positive_slope).to(dtype), mask=exists)
    tl.store(grad_sums + 2 * anchor + 1, (factor * negative_slope).to(dtype), mask=exists)


@triton.jit(do_not_specialize=NUMBERS)
def gradients_of_anchors(
    grad, clean, mixed, grad_clean, grad_mixed, anchors, strength: tl.int64, positive_scale: tl.int64,
    negative_scale: tl.int64, SIGMA: tl.constexpr, RELU: tl.constexpr, ANCHORS: tl.constexpr,
):  # fmt: skip
    """grad_clean [m, 2], and grad_mixed [m, 2] unless mixed is None."""
    scales = float64_of(positive_scale), float64_of(negative_scale)
    anchor = tl.program_id(0) * ANCHORS + tl.arange(0, ANCHORS)
    exists = anchor < anchors
    factor = tl.load(grad).to(tl.float64) / anchors.to(tl.float64)
    _, positive_slope, negative_slope = losses_of_anchors(clean, anchor, exists, scales, SIGMA, RELU)
    store_gradients(grad_clean, anchor, exists, factor, positive_slope, negative_slope)
    if mixed is not None:
        _, positive_slope, negative_slope = losses_of_anchors(mixed, anchor, exists, scales, SIGMA, RELU)
        store_gradients(grad_mixed, anchor, exists, float64_of(strength) * factor, positive_slope, negative_slope)


def mean_loss(
    sums: Tensor, mixed: Tensor | None, strength: float, sigma: str, scales: list[float], relu: bool
) -> Tensor:
    """A scalar, as the op; sums are contiguous."""
    loss = torch.empty((), dtype=sums.dtype, device=sums.device)
    with on_device(sums):
        mean_of_anchors[(1,)](sums, mixed, loss, len(sums), **_variant(strength, sigma, scales, relu))
    return loss


def mean_loss_backward(
    grad: Tensor, sums: Tensor, mixed: Tensor | None, strength: float, sigma: str, scales: list[float], relu: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of sums and mixed, as the op; sums are contiguous."""
    grad_sums = torch.empty_like(sums)
    grad_mixed = sums.new_empty(0) if mixed is None else torch.empty_like(mixed)
    if len(sums):
        with on_device(sums):
            gradients_of_anchors[(triton.cdiv(len(sums), ANCHORS),)](
                grad, sums, mixed, grad_sums, grad_mixed, len(sums), **_variant(strength, sigma, scales, relu)
            )
    return grad_sums, grad_mixed


def _variant(strength: float, sigma: str, scales: list[float], relu: bool) -> dict[str, Any]:
    positive, negative = scales
    return {
        "strength": _bits(strength),
        "positive_scale": _bits(positive),
        "negative_scale": _bits(negative),
        "SIGMA": sigma,
        "RELU": relu,
        "ANCHORS": ANCHORS,
        **OPTIONS,
    }


def _bits(number: float) -> int:
    """A double as the integer of its bits: of a float argument Triton would take single precision."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits)
