"""The mixed term by the formula of another loss."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import metrix_ext as mx
from tests.mixing.against_loops import every_set, expected, lambda_for, metrix, mixed_and_gradients
from tests.mixing.sources import feature_map, pooling_head
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, DIM, NUM_CLASSES, OTHER_PARAMETERS, batch, leaf
from tests.support.loss_tests import Build, gradients

ALL = {**CASES, **OTHER_PARAMETERS}


@every_set
@pytest.mark.parametrize(
    ("name", "mixed"), [("ms", "ms-2"), ("contrastive", "binomial-2"), ("nca", "contrastive-mean")]
)
def test_is_that_of_the_other_loss(backend: str, build: Build, name: str, mixed: str, pairs: str) -> None:
    """l~ is what the other loss alone would have, to the loops; l stays."""
    loss, other = build(ALL[name]), build(ALL[mixed])
    x, labels = batch("ragged")
    lam = lambda_for(ALL[mixed], pairs, labels)
    got = mixed_and_gradients(loss, x, labels, pairs, lam, mixed_loss=other)
    assert_close(got, expected(ALL[mixed], other, x, labels, pairs, lam), rtol=1e-9)

    criterion = metrix(loss, pairs=pairs, lam=lam, strength=0.7, mixed_loss=other)
    inp, inp2 = leaf(x), leaf(x)
    want = loss(inp2, labels) + 0.7 * metrix(other, pairs=pairs).mixed_loss(inp2, labels, pairs=pairs, lam=lam)
    assert_close(gradients(criterion(inp, labels), [inp]), gradients(want, [inp2]), rtol=1e-9)
    parts = criterion.parts(x, labels)
    assert_close([parts.clean + 0.7 * parts.mixed], [parts.loss], rtol=1e-12)


@pytest.mark.parametrize("pool", ["avg", "avg+max"])
def test_of_features(backend: str, build: Build, pool: str) -> None:
    x, labels = batch("ragged", 2)
    given = {"source": feature_map(len(labels)), "encode": pooling_head(pool), "seed": 8}
    criterion = metrix(build(CASES["ms"]), mix="feature", mixed_loss=build(CASES["lifted"]))
    want = metrix(build(CASES["lifted"]), mix="feature").mixed_loss(x, labels, **given)
    assert_close([criterion.mixed_loss(x, labels, **given)], [want], rtol=1e-12)


def test_proxies_are_those_of_the_loss(backend: str, build: Build) -> None:
    loss, other = build(CASES["pa"]), build(CASES["pa-paper"])
    criterion = metrix(loss, mixed_loss=other)
    assert [name for name, _ in criterion.named_parameters()] == ["loss.proxies"]
    x, labels = batch("ragged")
    got = criterion.mixed_loss(x, labels, lam=0.3)
    with torch.no_grad():
        other.proxies.copy_(loss.proxies)
    assert_close([got], [metrix(other).mixed_loss(x, labels, lam=0.3)], rtol=1e-12)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies(build: Build, copied: object) -> None:
    x, labels = batch("ragged")
    for criterion in metrix(build(CASES["ms"])), metrix(build(CASES["ms"]), mixed_loss=build(CASES["lifted"])):
        assert_same_bits([copied(criterion)(x, labels, seed=1)], [criterion(x, labels, seed=1)])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: mx.losses.ProxyAnchorLoss(NUM_CLASSES, DIM), "compares normalised proxies with examples"),
        (lambda: mx.losses.MultiSimilarityLoss(normalize=False), "compares examples with examples"),
        (torch.nn.CrossEntropyLoss, "got CrossEntropyLoss"),
    ],
)
def test_refused(other: object, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"mixed_loss: .*{said}"):
        metrix(mx.losses.MultiSimilarityLoss(), mixed_loss=other())
