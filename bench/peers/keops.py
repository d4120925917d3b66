"""The sums as KeOps reductions: similarities are computed where they are reduced and never stored.

A LazyTensor is a formula of vectors per row and per column. lambda of a pair is a matrix, which is none, so mixed sums
exist here with one lambda only; pos-neg takes a row for each anchor and positive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx

from ..problems.embeddings import EmbeddingBatch
from ..timing.isolate import Unavailable

NEVER = 1e6  # taken off the exponent of a term that does not count


def pair_sums(problem: EmbeddingBatch, labels: Tensor) -> Callable[[Tensor], Tensor]:
    if problem.pairs not in ("clean", "anc-neg", "pos-neg"):
        raise Unavailable(f"{problem.pairs} is not written for it")
    if problem.pairs != "clean" and problem.lam is None:
        raise Unavailable("a lambda per pair is a dense matrix, which a LazyTensor cannot hold")
    try:
        from pykeops.torch import LazyTensor
    except Exception as error:  # it looks for compilers when imported
        raise Unavailable(f"{type(error).__name__}: {error}") from None

    loss = mx.losses.MultiSimilarityLoss()
    positive_rho, negative_rho = loss.formula.rho
    n = problem.n
    column = torch.arange(n, device=labels.device)

    def rows(x: Tensor) -> Any:
        return LazyTensor(x.reshape(len(x), 1, -1).contiguous())

    def columns(x: Tensor) -> Any:
        return LazyTensor(x.reshape(1, len(x), -1).contiguous())

    def differ(row: Tensor, column: Tensor) -> Any:
        return (rows(row.float()) - columns(column.float())).abs().sign()

    def log_sum(rho: Any, s: Any, unused: Any) -> Tensor:
        return (s * rho.scale + rho.shift - unused * NEVER).logsumexp(dim=1).reshape(-1)

    def clean(x: Tensor) -> tuple[Tensor, Tensor]:
        s = rows(x) | columns(x)
        other_class, other = differ(labels, labels), differ(column, column)
        return log_sum(positive_rho, s, other_class + (1 - other)), log_sum(negative_rho, s, 1 - other_class)

    lam = problem.lam or 0.0
    labels_of_mix = torch.tensor([lam, 1 - lam]).log().tolist() if problem.lam is not None else [0.0, 0.0]

    def mixed(own: Any, s: Any, inner: Any) -> Any:
        t = own + s * (1 - lam)
        square = inner * (2 * lam * (1 - lam)) + (lam**2 + (1 - lam) ** 2)
        return t / square.sqrt() if problem.renormalize else t

    def anc_neg(x: Tensor) -> tuple[Tensor, Tensor]:
        s = rows(x) | columns(x)
        t, unused = mixed(lam, s, s), 1 - differ(labels, labels)
        return (
            log_sum(positive_rho, t, unused) + labels_of_mix[0],
            log_sum(negative_rho, t, unused) + labels_of_mix[1],
        )

    positive = (labels[:, None] == labels) & (column[:, None] != column)
    anchor, first = positive.nonzero(as_tuple=True)

    def pos_neg(x: Tensor) -> tuple[Tensor, Tensor]:
        a, p = x[anchor], x[first]
        own = rows((a * p).sum(1) * lam)
        t = mixed(own, rows(a) | columns(x), rows(p) | columns(x))
        unused = 1 - differ(labels[anchor], labels)

        def over_positives(rho: Any, log_label: float) -> Tensor:
            return log_sum(rho, t, unused).view(n, -1).logsumexp(1) + log_label

        return over_positives(positive_rho, labels_of_mix[0]), over_positives(negative_rho, labels_of_mix[1])

    sums = {"clean": clean, "anc-neg": anc_neg, "pos-neg": pos_neg}[problem.pairs]

    def step(embeddings: Tensor) -> Tensor:
        return loss.formula.per_anchor(torch.stack(sums(F.normalize(embeddings)), 1)).mean()

    return step
