"""pair_lambda: Philox-4x32-10 on the pair of indices, then the Beta quantile as the polynomial of beta.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...terms.beta import TERMS, quantile_polynomial
from .launch import OPTIONS, constants, on_device

BLOCK = 256


@triton.jit
def lower_beta_quantile(u, quantile, TERMS: tl.constexpr):
    """Quantile of Beta(alpha, alpha) at u in (0, 1/2], float64, from what beta.quantile_polynomial gives."""
    v = tl.exp2(tl.log2(2 * u) * tl.load(quantile))
    t = tl.load(quantile + 1) * v + tl.load(quantile + 2)
    p = tl.zeros_like(t)
    for k in tl.static_range(TERMS):
        p = p * t + tl.load(quantile + 2 + TERMS - k)
    return v * p


@triton.jit
def lambda_of_pairs(seed, rows, columns, quantile, out, column_count, TERMS: tl.constexpr, BLOCK: tl.constexpr):
    """out [r, c]: a pure function of (seed, i, j) with lambda_ji = 1 - lambda_ij; one half where i = j."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < column_count
    i, j = tl.load(rows + row), tl.load(columns + column, mask=inside, other=0)
    low, high = tl.minimum(i, j), tl.maximum(i, j)
    word, _, _, _ = tl.philox(
        tl.load(seed),
        low.to(tl.uint32),
        high.to(tl.uint32),
        (low >> 32).to(tl.uint32),
        (high >> 32).to(tl.uint32),
    )
    # u = (word + 1/2) 2^-32; the quantile is symmetric, so only min(u, 1 - u) is looked up.
    word = word.to(tl.int64)
    upper = word >= 0x80000000
    folded = tl.where(upper, 0xFFFFFFFF - word, word)
    lower = lower_beta_quantile((folded.to(tl.float64) + 0.5) * 2.3283064365386962890625e-10, quantile, TERMS)
    # The weight of the lower index is rounded before it is turned, so that lambda_ji = 1 - lambda_ij to the bit.
    value = tl.where(upper, 1 - lower, lower).to(out.dtype.element_ty)
    weight = tl.where(i == j, 0.5, tl.where(i < j, value, 1 - value))
    tl.store(out + row * column_count + column, weight, mask=inside)


def pair_lambda(seed: Tensor, rows: Tensor, columns: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    """[r, c], as the op."""
    out = torch.empty((rows.shape[0], columns.shape[0]), dtype=dtype, device=rows.device)
    grid = rows.shape[0], triton.cdiv(columns.shape[0], BLOCK)
    if out.numel():
        quantile = constants(quantile_polynomial(alpha), rows.device)
        with on_device(rows):
            lambda_of_pairs[grid](
                seed,
                rows.contiguous(),
                columns.contiguous(),
                quantile,
                out,
                columns.shape[0],
                TERMS,
                BLOCK,
                **OPTIONS,
            )
    return out
