"""Eq. (7) and (9) to the letter: every mixed embedding of every anchor."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference

from ..problems.embeddings import EmbeddingBatch
from ..problems.features import FeatureBatch


def pair_sums(
    problem: EmbeddingBatch, labels: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    loss = mx.losses.MultiSimilarityLoss()
    if problem.pairs == "clean":
        return lambda embeddings: reference.clean_loss(loss, embeddings, labels)
    lam = weights(problem.n, labels.device, dtype) if problem.lam is None else problem.lam
    return lambda embeddings: reference.mixed_loss(
        loss, embeddings, labels, problem.pairs, lam, renormalize=problem.renormalize
    )


def feature(
    problem: FeatureBatch, embeddings: Tensor, labels: Tensor, head: mx.heads.PoolingHead
) -> Callable[[Tensor], Tensor]:
    loss = mx.losses.MultiSimilarityLoss()
    lam = weights(problem.n, labels.device, embeddings.dtype)
    return lambda features: reference.mixed_loss(
        loss, embeddings, labels, problem.pairs, lam, source=features, encode=head
    )


def feature_of_anchor(
    problem: FeatureBatch, anchor: int, embeddings: Tensor, labels: Tensor, head: mx.heads.PoolingHead
) -> Callable[[Tensor], Tensor]:
    """What one anchor adds to the loss of ``feature``, so that the mixes of one are in memory at a time."""
    formula = mx.losses.MultiSimilarityLoss().formula
    same = labels == labels[anchor]
    same_class = same.nonzero()[:, 0]
    positives, negatives = same_class[same_class != anchor], (~same).nonzero()[:, 0]
    (i, j), label = reference.mixing_pairs(problem.pairs, positives, negatives)
    first = torch.where(i < 0, anchor, i)
    lam = weights(problem.n, labels.device, embeddings.dtype)[first, j]
    y = lam if label is None else torch.full_like(lam, label)
    weight = lam[:, None, None, None]

    def loss(features: Tensor) -> Tensor:
        v = head(weight * features[first] + (1 - weight) * features[j])
        s = v @ F.normalize(embeddings[anchor], dim=0)
        sums, _ = reference.both_sums(formula.rho, s, y, torch.ones_like(y))
        return formula.per_anchor(sums[None]).sum() / problem.n

    return loss


def weights(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """lambda of every pair, by SciPy: what metrix_ext draws with the seed n."""
    index = torch.arange(n)
    return reference.pair_lambda(n, index, index).to(device, dtype)
