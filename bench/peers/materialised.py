"""Feature mixup with one mix per unordered pair, as in metrix_ext, and all mixed maps in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops import pair_lambda

from ..problems.features import FeatureBatch
from ..timing.isolate import Unavailable


def feature(
    problem: FeatureBatch, embeddings: Tensor, labels: Tensor, head: mx.heads.PoolingHead
) -> Callable[[Tensor], Tensor]:
    if problem.pairs != "pos-neg":
        raise Unavailable(f"{problem.pairs} is not written for it")
    loss = mx.losses.MultiSimilarityLoss()
    index = torch.arange(problem.n)
    lam = pair_lambda(problem.n, index, index, 2.0, embeddings.dtype).to(labels.device)
    i, j = (labels[:, None] != labels).triu().nonzero(as_tuple=True)
    weight = lam[i, j]
    positive = (labels[:, None] == labels).fill_diagonal_(False)
    # An anchor of i's class has i as the positive and weight lambda, one of j's class has j and 1 - lambda.
    first, second = positive[:, i], positive[:, j]
    y = torch.where(first, weight, 1 - weight)
    unused = ~(first | second)

    def step(features: Tensor) -> Tensor:
        w = weight[:, None, None, None]
        v = head(w * features[i] + (1 - w) * features[j])
        s = embeddings @ v.T
        sums = [
            (rho.exponent(s) + label.log()).masked_fill(unused, -torch.inf).logsumexp(1)
            for rho, label in zip(loss.formula.rho, (y, 1 - y), strict=True)
        ]
        return loss.formula.per_anchor(torch.stack(sums, 1)).mean()

    return step
