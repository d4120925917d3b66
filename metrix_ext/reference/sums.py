"""One sum of Eq. (7) or (9) over the terms of an anchor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..terms.formula import Rho


def log_sum(exponents: Tensor, weights: Tensor) -> Tensor:
    """log sum_k weights_k e^(exponents_k) over the last dimension; minus infinity, with no gradient, if it is empty."""
    if exponents.shape[-1] == 0:
        return exponents.sum(-1) - math.inf
    exponents = exponents.masked_fill(weights == 0, -math.inf)
    top = exponents.detach().amax(-1)
    top = top.masked_fill(top == -math.inf, 0.0)
    total = (weights * (exponents - top[..., None]).exp()).sum(-1)
    empty = total == 0
    return (total.masked_fill(empty, 1.0).log() + top).masked_fill(empty, -math.inf)


def weighted_sum(rho: Rho, s: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """sum of weights * rho(s) over the last dimension, as a logarithm if rho is exponential; y are the labels.

    Returns:
        The sum, and the number of terms that are not 0 (linear rho; 0 otherwise).
    """
    # A term without weight must not matter even if it is not finite.
    s = rho.argument(s, y).masked_fill(weights == 0, 0.0)
    if rho.exponential:
        total = log_sum(rho.exponent(s), weights)
        return total, torch.zeros_like(total)
    terms = weights * rho(s)
    return terms.sum(-1), (terms != 0).sum(-1).to(s.dtype)


def both_sums(rho: tuple[Rho, Rho], s: Tensor, y: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The positive and the negative sum over terms of similarity s and label y; [..., 2] each, as weighted_sum.

    Both are NaN, and so is their gradient, if the similarity of a used term is not finite, whatever its label.
    """
    used = used.bool()
    y, s = y.to(s.dtype), s.masked_fill(~used, 0.0)
    zero_or_nan = (0 * s.detach()).sum(-1, keepdim=True)
    s = s + zero_or_nan
    positive = weighted_sum(rho[0], s, y, torch.where(used, y, 0.0))
    negative = weighted_sum(rho[1], s, y, torch.where(used, 1 - y, 0.0))
    sums, nonzero = zip(positive, negative, strict=True)
    return torch.stack(sums, -1) * (1 + zero_or_nan), torch.stack(nonzero, -1)
