"""Feature mixup through a PoolingHead, against the loop oracle."""

from __future__ import annotations

import pytest

import metrix_ext as mx
from tests.mixing.against_loops import SMALL_LAYOUTS, every_set, metrix, random_lambda
from tests.mixing.sources import (
    assert_source_like_loops,
    expected_source,
    feature_map,
    head_by_hand,
    mixed_source,
    not_refused,
    pooling_head,
)
from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import CASES, batch, leaf
from tests.support.loss_tests import PAIR_CASES, Build, assert_repeats, gradients, random_batch


@pytest.mark.parametrize(("name", "pairs"), not_refused([*PAIR_CASES, "pa", "pa-paper"], PAIR_SETS))
@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
def test_pooling_head(backend: str, build: Build, name: str, pairs: str, pool: str) -> None:
    """Values, and gradients to the anchors, the features and the head, each on its own."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged", 2)
    source, head = feature_map(len(labels)), pooling_head(pool)
    lam = random_lambda((len(labels), len(labels)))
    criterion, by_hand = metrix(loss, mix="feature"), head_by_hand(head, pool)
    assert_source_like_loops(criterion, case, x, labels, pairs, lam, source, head, by_hand)


@pytest.mark.parametrize(
    ("name", "pairs"),
    not_refused(["ms", "contrastive-mean", "nca", "pa"], ["pos-neg", "neg-neg", "anc-neg"]),
)
@pytest.mark.parametrize("pool", ["avg", "avg+max"])
def test_sampled_lambda(backend: str, build: Build, name: str, pairs: str, pool: str) -> None:
    """lambda_ji = 1 - lambda_ij: here the mix of {i, j} may be made once for both."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged", 2)
    n = len(labels)
    source, head = feature_map(n), pooling_head(pool)
    lam = loop_oracle.pair_lambda(77, range(n), range(n), 2.0)
    criterion, by_hand = metrix(loss, mix="feature"), head_by_hand(head, pool)
    assert_source_like_loops(criterion, case, x, labels, pairs, lam, source, head, by_hand, drawn_with=77)


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
@pytest.mark.parametrize("layout", SMALL_LAYOUTS)
@every_set
def test_small_batches(backend: str, build: Build, pool: str, layout: str, pairs: str) -> None:
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels = batch(layout)
    source, head = feature_map(len(labels)), pooling_head(pool)
    criterion, by_hand = metrix(loss, mix="feature"), head_by_hand(head, pool)
    assert_source_like_loops(criterion, case, x, labels, pairs, 0.6, source, head, by_hand)


@pytest.mark.parametrize("name", ["ms", "contrastive-nonzero"])
@pytest.mark.parametrize("lam", ["tensor", "pair"])
@pytest.mark.parametrize("workspace", [1, 5000])
@every_set
def test_chunks(build: Build, name: str, lam: str, workspace: int, pairs: str) -> None:
    """One pair at a time, and a few: the sums of an anchor go on from chunk to chunk."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged", 2)
    n = len(labels)
    source, head = feature_map(n), pooling_head("avg+max")
    drawn_with = 6 if lam == "pair" else None
    weights = random_lambda((n, n)) if lam == "tensor" else loop_oracle.pair_lambda(6, range(n), range(n), 2.0)
    criterion, by_hand = metrix(loss, mix="feature", workspace=workspace), head_by_hand(head, "avg+max")
    assert_source_like_loops(criterion, case, x, labels, pairs, weights, source, head, by_hand, drawn_with)


def test_embeddings_of_the_same_features(backend: str, build: Build) -> None:
    """As in training: the anchors come from the features that are mixed, and their gradients add up."""
    loss = build(CASES["ms"])
    _, labels = batch("ragged")
    head = pooling_head("avg+max")
    f1, f2 = leaf(feature_map(len(labels))), leaf(feature_map(len(labels)))
    criterion = metrix(loss, mix="feature", pairs="pos-neg", strength=0.4, lam=0.3)
    got = gradients(criterion(head(f1), labels, source=f1, encode=head), [f1, *head.parameters()])
    by_hand = head_by_hand(head, "avg+max")
    clean = loop_oracle.clean_loss(CASES["ms"].loss, by_hand(f2), labels)
    mixed = loop_oracle.mixed_loss(CASES["ms"].loss, by_hand(f2), labels, "pos-neg", 0.3, source=f2, encode=by_hand)
    assert_close(got, gradients(clean + 0.4 * mixed, [f2, *head.parameters()]), rtol=1e-8)


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
@pytest.mark.usefixtures("two_threads")
def test_bitwise_repeatable(backend: str, build: Build, pool: str) -> None:
    x, labels = random_batch(24)
    criterion, head = metrix(build(CASES["ms"]), mix="feature"), pooling_head(pool)
    assert_repeats(lambda: mixed_source(criterion, x, labels, "pos-neg", None, feature_map(24), head, 3), 1)


def test_nan_in_the_features(backend: str, build: Build) -> None:
    x, labels = batch("ragged")
    for pool in ("avg", "max", "avg+max"):
        source = feature_map(len(labels))
        source[2, 1, 1, 1] = float("nan")
        criterion = metrix(build(CASES["ms"]), mix="feature")
        value = criterion.mixed_loss(x, labels, pairs="pos-neg", lam=0.3, source=source, encode=pooling_head(pool))
        assert value.isnan(), pool


def test_reference_function(build: Build) -> None:
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels = batch("ragged", 2)
    source, head = feature_map(len(labels)), pooling_head("avg+max")
    lam = random_lambda((len(labels), len(labels)))
    got = mx.reference.mixed_loss(loss, x, labels, "pos-neg", lam, source=source, encode=head, hard_negatives=2)
    by_hand = head_by_hand(head, "avg+max")
    want = expected_source(case, loss, x, labels, "pos-neg", lam, source, by_hand, [], 2)
    assert_close([got.detach()], want[:1], rtol=1e-9)
