"""What the ops of those names compute, with all terms in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..terms.formula import Rho, nan_if_not_finite
from ..terms.mixes import Mixes
from ..terms.relations import Relations
from .sums import both_sums


def pair_sums(
    similarity: Tensor,
    relations: Relations,
    rho: tuple[Rho, Rho],
    pairs: str = "clean",
    lam: Tensor | None = None,
    gram: Tensor | None = None,
    sqnorm: Tensor | None = None,
    self_similarity: Tensor | None = None,
    self_sqnorm: Tensor | None = None,
    first_row: int = 0,
) -> tuple[Tensor, Tensor]:
    """What metrix_ext.ops.pair_sums computes, with all m n^2 terms of a set within the examples in memory."""
    m, n = similarity.shape
    mask = relations.dense(n)
    positive, negative = mask == 1, mask == -1
    if pairs == "clean":
        return both_sums(rho, similarity, positive, positive | negative)
    assert lam is not None
    if pairs.startswith("anc-"):
        if self_similarity is None:  # the anchors are the examples
            self_similarity = similarity.diagonal()
            self_sqnorm = None if gram is None else gram.diagonal()
            sqnorm = self_sqnorm if sqnorm is None else sqnorm
        s = lam * self_similarity[:, None] + (1 - lam) * similarity
        used = negative if pairs == "anc-neg" else positive
        if gram is not None:
            assert self_sqnorm is not None
            s = s / _mixed_norm(lam, self_sqnorm[:, None], sqnorm, gram, used)
        label = lam.expand(m, n)
    else:
        r = len(lam) if lam.numel() != 1 else n if gram is None else len(gram)
        rows = slice(first_row, first_row + r)
        s = lam * similarity[:, rows, None] + (1 - lam) * similarity[:, None, :]
        first = negative if pairs == "neg-neg" else positive
        second = positive if pairs == "pos-pos" else negative
        used = first[:, rows, None] & second[:, None, :]
        if pairs != "pos-neg":
            used = used & torch.ones(r, n, dtype=torch.bool, device=used.device).triu(first_row + 1)
        if gram is not None:
            sqnorm = gram.diagonal() if sqnorm is None else sqnorm
            s = s / _mixed_norm(lam, sqnorm[rows, None], sqnorm, gram, used)
        label = lam.expand(r, n).expand(m, r, n)
    if pairs in ("pos-pos", "anc-pos"):
        label = torch.ones_like(label)
    elif pairs == "neg-neg":
        label = torch.zeros_like(label)
    return both_sums(rho, s.flatten(1), label.flatten(1), used.flatten(1))


def mix_pool(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None = None) -> Tensor:
    """What metrix_ext.ops.mix_pool computes, with all mixed maps in memory."""

    def mix(x: Tensor) -> Tensor:
        lam = mixes.lam.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
        return torch.lerp(x[order[mixes.second]], x[order[mixes.first]], lam)

    pooled = F.max_pool2d(mix(features), features.shape[-2:]).flatten(1)
    return pooled if averages is None else (pooled + mix(averages)).to(features.dtype)


def anchor_sums(
    mixed: Tensor,
    anchors: Tensor,
    relations: Relations,
    rho: tuple[Rho, Rho],
    pairs: str,
    mixes: Mixes,
    both_orders: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """What metrix_ext.ops.anchor_sums computes, with all m p similarities in memory."""
    mask, i, j, lam = relations.dense(mixes.examples), mixes.first, mixes.second, mixes.lam
    with_anchor = pairs.startswith("anc-")

    def uses(first: Tensor, second: Tensor) -> Tensor:
        if with_anchor:
            is_first = relations.self_index[:, None] == first
        else:
            is_first = mask[:, first] == (-1 if pairs == "neg-neg" else 1)
        return is_first & (mask[:, second] == (1 if pairs in ("anc-pos", "pos-pos") else -1))

    forward = uses(i, j)
    used = forward | uses(j, i) if both_orders else forward
    if pairs in ("pos-pos", "anc-pos"):
        y = torch.ones_like(lam)
    elif pairs == "neg-neg":
        y = torch.zeros_like(lam)
    else:
        y = torch.where(forward, lam, 1 - lam)
    v = mixed.to(anchors.dtype)
    if normalize:
        v = F.normalize(v) + 0 * v.detach().norm(dim=1, keepdim=True)  # NaN where the norm is infinite
    return both_sums(rho, anchors @ v.T, y.expand(used.shape), used)


def _mixed_norm(lam: Tensor, q_i: Tensor, q_j: Tensor | None, k_ij: Tensor, used: Tensor) -> Tensor:
    """nu of the mixes that an anchor uses, 1 elsewhere: the gradient of what is not used is not 0 times NaN."""
    assert q_j is not None
    square = lam**2 * q_i + (1 - lam) ** 2 * q_j + 2 * lam * (1 - lam) * k_ij
    return nan_if_not_finite(torch.where(used, square, 1.0)).clamp_min(1e-24).sqrt()
