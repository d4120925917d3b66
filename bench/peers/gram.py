"""The reduction over the Gram matrix in plain PyTorch for classes of any size: all terms, masked."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.terms.relations import Relations

from ..problems.embeddings import EmbeddingBatch


def pair_sums(problem: EmbeddingBatch, labels: Tensor) -> Callable[[Tensor], Tensor]:
    formula = mx.losses.MultiSimilarityLoss().formula
    mixed, with_anchor = problem.pairs != "clean", problem.pairs.startswith("anc-")
    lam = problem.given_lambda(labels.device) if mixed else None

    def step(embeddings: Tensor) -> Tensor:
        x = F.normalize(embeddings)
        s = x @ x.T
        relations = Relations.from_labels(labels, labels, torch.arange(len(x), device=x.device))
        own = s.diagonal() if with_anchor else None
        norms = (s, own if with_anchor else None) if mixed and problem.renormalize else (None, None)
        sums, _ = reference.pair_sums(
            s, relations, formula.rho, problem.pairs, lam, *norms, own, own if norms[0] is not None else None
        )
        return formula.per_anchor(sums).mean()

    return step
