"""lambda of a pair: Philox-4x32-10 and the quantile function of Beta(alpha, alpha)."""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Tensor


def pair_lambda(
    seed: int | Tensor, rows: Tensor, columns: Tensor, alpha: float = 2.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """What metrix_ext.ops.pair_lambda computes, with the quantile function of SciPy."""
    low = torch.minimum(rows[:, None], columns[None, :])
    high = torch.maximum(rows[:, None], columns[None, :])
    word = philox((low, high), int(seed))
    u = (word.cpu().double() + 0.5) * 2.0**-32
    quantile = torch.from_numpy(betaincinv(alpha, alpha, u.clamp(max=0.5).minimum(1 - u).numpy()))
    lam = torch.where(u < 0.5, quantile, 1 - quantile).to(rows.device, dtype)
    lam = torch.where(rows[:, None] > columns[None, :], 1 - lam, lam)
    return lam.masked_fill(rows[:, None] == columns[None, :], 0.5)


def philox(counter: tuple[Tensor, Tensor], key: int) -> Tensor:
    """First output word of Philox-4x32-10 (Salmon et al. 2011) for a counter of two 64-bit integers."""
    low32 = 0xFFFFFFFF
    c0, c1 = counter[0] & low32, counter[1] & low32
    c2, c3 = counter[0] >> 32, counter[1] >> 32
    k0, k1 = key & low32, (key >> 32) & low32
    for _ in range(10):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & low32, (k1 + 0xBB67AE85) & low32
    return c0


def _multiply(factor: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product of 32-bit numbers, without the sign bit of int64 in the way."""
    low = factor * (x & 0xFFFF)
    middle = factor * (x >> 16) + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)
