"""Eq. (7) and (9) to the letter: every mixed embedding of every anchor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference

if TYPE_CHECKING:
    from ..cases.feature import Feature
    from ..cases.pair_sums import PairSums


def pair_sums(problem: PairSums, labels: Tensor, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    loss = mx.losses.MultiSimilarityLoss()
    if problem.pairs == "clean":
        return lambda embeddings: reference.clean_loss(loss, embeddings, labels)
    lam = weights(problem.n, labels.device, dtype) if problem.lam is None else problem.lam
    return lambda embeddings: reference.mixed_loss(
        loss, embeddings, labels, problem.pairs, lam, renormalize=problem.renormalize
    )


def feature(
    problem: Feature, embeddings: Tensor, labels: Tensor, head: mx.heads.PoolingHead
) -> Callable[[Tensor], Tensor]:
    loss = mx.losses.MultiSimilarityLoss()
    lam = weights(problem.n, labels.device, embeddings.dtype)
    return lambda features: reference.mixed_loss(
        loss, embeddings, labels, problem.pairs, lam, source=features, encode=head
    )


def feature_of_anchor(
    problem: Feature, anchor: int, embeddings: Tensor, labels: Tensor, head: mx.heads.PoolingHead
) -> Callable[[Tensor], Tensor]:
    """What one anchor adds to the loss: of the others neither positives nor negatives are taken."""
    loss = mx.losses.MultiSimilarityLoss()
    lam = weights(problem.n, labels.device, embeddings.dtype)
    same = labels == labels[anchor]
    same_class = same.nonzero()[:, 0]
    positives, negatives = same_class[same_class != anchor], (~same).nonzero()[:, 0]
    pairs = (torch.full_like(positives, anchor), positives, torch.full_like(negatives, anchor), negatives)
    return lambda features: reference.mixed_loss(
        loss, embeddings, labels, problem.pairs, lam, source=features, encode=head, indices_tuple=pairs
    )


def weights(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """lambda of every pair, by SciPy: what metrix_ext draws with the seed n."""
    index = torch.arange(n)
    return reference.pair_lambda(n, index, index).to(device, dtype)
