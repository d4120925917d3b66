"""What Metrix refuses, and that the message names the argument."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metrix_ext as mx
from tests.mixing.against_loops import metrix
from tests.mixing.sources import CHANNELS
from tests.support.loss_cases import DIM

X = torch.zeros(4, DIM)
Y = torch.tensor([0, 0, 1, 1])
FEATURES = torch.zeros(4, CHANNELS, 2, 2)


def small_head(f: Tensor) -> Tensor:
    return F.normalize(F.pad(f.mean((2, 3)), (0, DIM - CHANNELS)), dim=1)


def proxy_anchor() -> nn.Module:
    return mx.losses.ProxyAnchorLoss(3, DIM)


def proxy_nca() -> nn.Module:
    return mx.losses.ProxyNCALoss(3, DIM)


def ms() -> nn.Module:
    return mx.losses.MultiSimilarityLoss()


@pytest.mark.parametrize("mix", ["feature", "input"])
@pytest.mark.parametrize(
    ("loss", "pairs"),
    [
        (proxy_anchor, "anc-neg"),
        (proxy_anchor, "anc-pos"),
        (proxy_nca, "pos-neg"),
        (proxy_nca, "anc-neg"),
        (proxy_nca, "neg-neg"),
    ],
)
def test_proxies_have_nothing_but_an_embedding(mix: str, loss: Callable[[], nn.Module], pairs: str) -> None:
    with pytest.raises(ValueError, match="embed"):
        mx.Metrix(loss(), mix=mix, pairs=pairs)(X, Y, source=FEATURES, encode=small_head)
    with pytest.raises(ValueError, match="embed"):
        mx.Metrix(loss(), mix=mix, pairs="pos-neg").mixed_loss(
            X, Y, pairs=pairs, lam=0.5, source=FEATURES, encode=small_head
        )


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("mix", {"mix": "manifold"}),
        ("mix", {"mix": ()}),
        ("pairs", {"pairs": "pos-anc"}),
        ("pairs", {"pairs": ()}),
        ("alpha", {"alpha": 0.0}),
        ("lam", {"lam": "triplet"}),
        ("lam", {"lam": 1.5}),
        ("hard_negatives", {"hard_negatives": 0}),
        ("hard_negatives", {"hard_negatives": "some"}),
        ("strength", {"strength": -1.0}),
        ("strength", {"pairs": "pos-pos", "strength": {"pos-neg": 0.4}}),
    ],
)
def test_wrong_construction(argument: str, options: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match=argument):
        mx.Metrix(ms(), **{"mix": "embed", **options})


def test_not_a_loss_of_table_1() -> None:
    with pytest.raises((ValueError, TypeError), match="loss"):
        mx.Metrix(nn.CrossEntropyLoss(), mix="embed")


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("source", lambda: mx.Metrix(ms())(X, Y, encode=small_head)),
        ("source", lambda: mx.Metrix(ms(), mix="feature")(X, Y, encode=small_head)),
        ("encode", lambda: mx.Metrix(ms(), mix="feature")(X, Y, source=FEATURES)),
        ("source", lambda: mx.Metrix(ms(), mix="feature")(X, Y, source=FEATURES[:3], encode=small_head)),
        ("lam", lambda: metrix(ms()).mixed_loss(X, Y, pairs="pos-neg", lam=torch.zeros(3, 4))),
        ("lam", lambda: metrix(proxy_anchor()).mixed_loss(X, Y, pairs="anc-neg", lam=torch.zeros(4, 4))),
        ("pairs", lambda: metrix(ms()).mixed_loss(X, Y, pairs="all", lam=0.5)),
        ("labels", lambda: metrix(ms()).mixed_loss(X, Y[:3], pairs="pos-neg", lam=0.5)),
        ("embeddings", lambda: metrix(ms()).mixed_loss(X[0], Y, pairs="pos-neg", lam=0.5)),
    ],
)
def test_wrong_call(argument: str, call: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError), match=argument):
        call()
