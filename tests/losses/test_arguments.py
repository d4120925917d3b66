"""What the losses refuse, and that the message names the argument."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import metrix_ext as mx
from tests.support.loss_cases import DIM

X = torch.zeros(4, DIM)
Y = torch.tensor([0, 0, 1, 1])
WRONG_CONSTRUCTIONS = [
    ("aggregate", lambda: mx.losses.ContrastiveLoss(aggregate="median")),
    ("variant", lambda: mx.losses.ProxyAnchorLoss(3, 4, variant="new")),
    ("beta", lambda: mx.losses.MultiSimilarityLoss(beta=0.0)),
    ("beta", lambda: mx.losses.BinomialDevianceLoss(beta=-1.0)),
    ("gamma", lambda: mx.losses.MultiSimilarityLoss(gamma=-1.0)),
    ("gamma", lambda: mx.losses.ProxyAnchorLoss(3, 4, gamma=0.0)),
    ("temperature", lambda: mx.losses.ProxyNCAPlusPlusLoss(3, 4, temperature=0.0)),
    ("num_classes", lambda: mx.losses.ProxyAnchorLoss(0, 4)),
    ("embedding_size", lambda: mx.losses.ProxyNCALoss(3, 0)),
]
WRONG_CALLS = [
    ("embeddings", lambda loss: loss(X[0], Y)),
    ("embeddings", lambda loss: loss(X.long(), Y)),
    ("embeddings", lambda loss: loss(X.tolist(), Y)),
    ("labels", lambda loss: loss(X, Y[:3])),
    ("labels", lambda loss: loss(X, torch.stack((Y, Y), 1))),
    ("labels", lambda loss: loss(X, Y.float())),
    ("ref_labels", lambda loss: loss(X, Y, ref_emb=X.clone())),
    ("ref_labels", lambda loss: loss(X, Y, ref_emb=X.clone(), ref_labels=Y[:2])),
    ("ref_emb", lambda loss: loss(X, Y, ref_emb=X[:, :2], ref_labels=Y)),
    ("indices_tuple", lambda loss: loss(X, Y, (Y, Y))),
]


@pytest.mark.parametrize(("argument", "wrong"), WRONG_CONSTRUCTIONS)
def test_wrong_construction(argument: str, wrong: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError), match=argument):
        wrong()


@pytest.mark.parametrize(("argument", "wrong"), WRONG_CALLS)
def test_wrong_call(backend: str, argument: str, wrong: Callable[[nn.Module], object]) -> None:
    with pytest.raises((ValueError, TypeError), match=argument):
        wrong(mx.losses.MultiSimilarityLoss())
