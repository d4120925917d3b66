"""The reduction over the Gram matrix in plain PyTorch, as one would write it for classes of equal size.

All terms of a set of pairs are in memory; sets with a positive take just its rows of lambda and of the norms. lambda is
given: drawing it is not part of the time, unlike in metrix_ext.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx

from ..problems.embeddings import EmbeddingBatch


def pair_sums(problem: EmbeddingBatch, labels: Tensor) -> Callable[[Tensor], Tensor]:
    n, pairs = problem.n, problem.pairs
    loss = mx.losses.MultiSimilarityLoss()
    positive_rho, negative_rho = loss.formula.rho
    column = torch.arange(n, device=labels.device)
    same = labels[:, None] == labels
    positive, negative = same & (column[:, None] != column), ~same
    positives = positive.nonzero()[:, 1].view(n, problem.k - 1)
    lam = problem.given_lambda(labels.device)

    def log_sum(exponents: Tensor, used: Tensor) -> Tensor:
        return exponents.masked_fill(~used, -math.inf).flatten(1).logsumexp(1)

    def per_anchor(sums: tuple[Tensor | None, Tensor | None]) -> Tensor:
        parts = [sigma(total) for sigma, total in zip(loss.formula.sigma, sums, strict=True) if total is not None]
        return torch.stack(parts).sum(0).mean()

    def clean(s: Tensor) -> tuple[Tensor, Tensor]:
        return log_sum(positive_rho.exponent(s), positive), log_sum(negative_rho.exponent(s), negative)

    def norms(s: Tensor) -> Tensor:
        square = lam**2 + (1 - lam) ** 2 + 2 * lam * (1 - lam) * s
        return square.clamp_min(1e-24).sqrt() if problem.renormalize else torch.ones_like(s)

    def with_anchor(s: Tensor) -> tuple[Tensor, Tensor | None]:
        t = (lam + (1 - lam) * s) / norms(s)
        if pairs == "anc-pos":
            return log_sum(positive_rho.exponent(t), positive), None
        y = torch.log(lam), torch.log1p(-lam)
        return log_sum(positive_rho.exponent(t) + y[0], negative), log_sum(negative_rho.exponent(t) + y[1], negative)

    def within_examples(s: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows = column.expand(n, n) if pairs == "neg-neg" else positives
        later = rows[:, :, None] < column
        weight = lam[rows]
        t = (weight * s.gather(1, rows)[:, :, None] + (1 - weight) * s[:, None, :]) / norms(s)[rows]
        if pairs == "pos-pos":
            return log_sum(positive_rho.exponent(t), positive[:, None, :] & later), None
        if pairs == "neg-neg":
            used = negative[:, :, None] & negative[:, None, :] & later
            return None, log_sum(negative_rho.exponent(t), used)
        y = torch.log(weight), torch.log1p(-weight)
        used = negative[:, None, :].expand_as(t)
        return log_sum(positive_rho.exponent(t) + y[0], used), log_sum(negative_rho.exponent(t) + y[1], used)

    sums = clean if pairs == "clean" else with_anchor if pairs.startswith("anc-") else within_examples

    def step(embeddings: Tensor) -> Tensor:
        x = F.normalize(embeddings)
        return per_anchor(sums(x @ x.T))

    return step
