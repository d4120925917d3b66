"""Only the k most similar negatives of every anchor are mixed."""

from __future__ import annotations

import pytest
import torch

import metrix_ext as mx
from tests.mixing.against_loops import assert_like_loops, lambda_for, metrix, random_lambda
from tests.mixing.sources import CHANNELS, SmallModel, assert_source_like_loops, feature_map, head_by_hand, pooling_head
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, batch
from tests.support.loss_tests import Build, default_case, with_loss


@default_case
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg", "neg-neg"])
@pytest.mark.parametrize("k", [1, 2, 100])
def test_the_k_most_similar(backend: str, build: Build, name: str, pairs: str, k: int) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged", 4)
    lam = lambda_for(case, pairs, labels)
    for renormalize in (False, True):
        options = {"hard_negatives": k, "renormalize": renormalize}
        assert_like_loops(case, loss, x, labels, pairs, lam, **options)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
def test_ties_go_to_the_lower_index(backend: str, pairs: str, k: int) -> None:
    """Small whole numbers: the similarities tie exactly. Different lambdas tell the tied ones apart.

    The higher the index the lower the class, so that an order by class gives itself away.
    """
    case = with_loss(CASES["ms"], normalize=False, beta=2.0, gamma=2.0)
    loss = mx.losses.MultiSimilarityLoss(beta=2.0, gamma=2.0, normalize=False)
    x = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], dtype=torch.float64)
    labels = torch.tensor([3, 3, 2, 1, 2, 1, 0])
    lam = random_lambda((7, 7), 1)
    assert_like_loops(case, loss, x, labels, pairs, lam, rtol=1e-9, hard_negatives=k)


def test_all_is_all(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    by_default, every = (
        metrix(loss, hard_negatives=k).mixed_loss(x, labels, pairs="pos-neg", lam=0.3) for k in (None, "all")
    )
    assert torch.equal(by_default, every)


def test_do_not_touch_the_clean_loss(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion = metrix(loss, hard_negatives=1, pairs="pos-neg", lam=0.3, strength=0.0)
    assert_close([criterion(x, labels)], [loss(x, labels)], rtol=1e-13)


@pytest.mark.parametrize("pool", ["avg", "avg+max"])
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
def test_hard_negatives(backend: str, build: Build, pool: str, pairs: str) -> None:
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels = batch("ragged", 2)
    source, head = feature_map(len(labels)), pooling_head(pool)
    lam = random_lambda((len(labels), len(labels)))
    criterion = metrix(loss, mix="feature", hard_negatives=2)
    by_hand = head_by_hand(head, pool)
    assert_source_like_loops(criterion, case, x, labels, pairs, lam, source, head, by_hand, hard_negatives=2)


def test_hard_negatives_per_mix(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged", 2)
    source, model = feature_map(len(labels)), SmallModel(CHANNELS)
    options = {"pairs": "pos-neg", "lam": 0.3, "strength": 1.0}
    for mix, k in (("feature", 2), ("input", 3), ("embed", None)):
        per_mix = metrix(loss, mix=mix, hard_negatives={"feature": 2}, **options)
        single = metrix(loss, mix=mix, hard_negatives=k, **options)
        given = {} if mix == "embed" else {"source": source, "encode": model}
        assert torch.equal(per_mix(x, labels, **given), single(x, labels, **given)), mix
