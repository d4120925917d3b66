"""The pos-neg sums of Eq. (9) when all pairs share one lambda: O(n^2) instead of O(n^3).

With v = lambda p + (1 - lambda) n not normalised again, an exponential of s(a, v) is a product, so its sum over all
pairs (p, n) is the product of a sum over positives and a sum over negatives:

    log sum_pn y e^(b s(a, v) + c) = log y + c + log sum_P e^(b lambda s(a, p)) + log sum_N e^(b (1 - lambda) s(a, n))

A margin that follows the label is one number for all, a part of c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..ops.pair_sums import pair_sums
from ..terms.formula import Rho
from ..terms.pair_sets import count_terms
from ..terms.relations import Relations


def factorises(rho: tuple[Rho, Rho], pairs: str, lam: Tensor, renormalize: bool) -> bool:
    return pairs == "pos-neg" and lam.numel() == 1 and rho[0].exponential and not renormalize


def factorised_sums(
    similarity: Tensor, relations: Relations, rho: tuple[Rho, Rho], lam: Tensor
) -> tuple[Tensor, Tensor]:
    """As ops.pair_sums with pairs="pos-neg", for an exponential rho and lam of one element."""
    lam = lam.detach().reshape(())
    # lambda is on the device, rho is not: the similarities are scaled, each by the weight of its side.
    positive = relations.dense(similarity.shape[1]) == 1
    scaled = similarity * torch.where(positive, lam, 1 - lam)
    columns = []
    for side, label in zip(rho, (lam, 1 - lam), strict=True):
        factor = Rho(side.scale)
        factors, _ = pair_sums(scaled, relations, (factor, factor))
        shift = side.shift - side.scale * side.margin_range * lam
        columns.append(label.log() + shift + factors.sum(1))
    sums = torch.stack(columns, 1)
    # No pair, or no weight: nothing flows back, whatever comes from above or is in the set that is not empty.
    empty = (sums == -math.inf) | (count_terms("pos-neg", relations, similarity.shape[1]) == 0)
    return sums.masked_fill(empty, -math.inf), torch.zeros_like(sums)
