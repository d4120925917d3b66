"""The criterion: clean loss plus strength times mixed loss, with what is drawn at each call."""

from __future__ import annotations

import math

import torch

import metrix_ext as mx
from tests.mixing.against_loops import metrix
from tests.mixing.sources import CHANNELS, SmallModel, feature_map, pooling_head
from tests.support import loop_oracle
from tests.support.compare import assert_close, assert_zero_gradient
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import CASES, batch, leaf
from tests.support.loss_tests import Build, default_case, gradients, nothing_to_compare


@default_case
def test_clean_plus_strength_times_mixed(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("ragged")
    criterion = metrix(loss, pairs="pos-neg", strength=0.7, lam=0.3, renormalize=True)
    inp, inp2 = leaf(x), leaf(x)
    got = gradients(criterion(inp, labels), [inp, *loss.parameters()])
    parts = loss(inp2, labels) + 0.7 * criterion.mixed_loss(inp2, labels, pairs="pos-neg")
    assert_close(got, gradients(parts, [inp2, *loss.parameters()]), rtol=1e-12)


def test_default_strengths_and_both_sets_drawn(build: Build) -> None:
    """E is one of two values, and over many calls each about as often as the other."""
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion = mx.Metrix(loss, mix="embed", lam=0.3)
    clean = loss(x, labels)
    of_set = {
        pairs: float(clean + w * criterion.mixed_loss(x, labels, pairs=pairs, lam=0.3))
        for pairs, w in (("pos-neg", 0.4), ("anc-neg", 0.3))
    }

    def drawn(calls: int) -> list[str]:
        torch.manual_seed(0)
        values = [float(criterion(x, labels)) for _ in range(calls)]
        names = [[s for s, v in of_set.items() if math.isclose(v, e, rel_tol=1e-12)] for e in values]
        assert all(len(found) == 1 for found in names)
        return [found[0] for found in names]

    first = drawn(200)
    assert 60 < first.count("pos-neg") < 140
    assert drawn(50) == first[:50]


def test_strength_per_set(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    for pairs in PAIR_SETS:
        criterion = metrix(loss, pairs=(pairs,), strength={pairs: 2.0}, lam=0.3)
        want = loss(x, labels) + 2.0 * criterion.mixed_loss(x, labels, pairs=pairs)
        assert_close([criterion(x, labels)], [want], rtol=1e-12)


def test_seed_sets_the_lambdas(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    n = len(labels)
    criterion = metrix(loss, pairs="pos-neg", strength=1.0)
    lam = loop_oracle.pair_lambda(123, range(n), range(n), 2.0)
    want = loss(x, labels) + criterion.mixed_loss(x, labels, pairs="pos-neg", lam=lam)
    assert_close([criterion(x, labels, seed=123)], [want], rtol=1e-9)


def test_repeatable_with_equal_seeds(build: Build) -> None:
    x, labels = batch("ragged")
    criterion = mx.Metrix(build(CASES["ms"]), mix="embed")

    def five() -> list[float]:
        torch.manual_seed(9)
        return [float(criterion(x, labels)) for _ in range(5)]

    first = five()
    assert five() == first
    assert len(set(first)) == 5


def test_without_gradients(backend: str, build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged", 2)
    given = {"lam": 0.3, "source": feature_map(len(labels)), "encode": pooling_head("avg+max")}
    criterion = metrix(loss, mix="feature")
    want = criterion.mixed_loss(leaf(x), labels, **given)
    with torch.no_grad():
        value = criterion.mixed_loss(x, labels, **given)
    assert want.requires_grad
    assert not value.requires_grad
    assert_close([value], [want], rtol=1e-12)


def test_several_mixes(build: Build) -> None:
    """One of them is drawn at each call, each with its own source and encode."""
    loss = build(CASES["ms"])
    x, labels = batch("ragged", 2)
    features, head = feature_map(len(labels)), pooling_head("avg+max")
    images, model = feature_map(len(labels), 1), SmallModel(CHANNELS)
    source, encode = {"feature": features, "input": images}, {"feature": head, "input": model}
    options = {"pairs": "pos-neg", "strength": 1.0, "lam": 0.3}
    alone = {
        "embed": metrix(loss, mix="embed", **options)(x, labels),
        "feature": metrix(loss, mix="feature", **options)(x, labels, source=features, encode=head),
        "input": metrix(loss, mix="input", **options)(x, labels, source=images, encode=model),
    }
    criterion = metrix(loss, mix=("input", "feature", "embed"), **options)
    torch.manual_seed(0)
    counts = dict.fromkeys(alone, 0)
    for _ in range(90):
        value = float(criterion(x, labels, source=source, encode=encode).detach())
        found = [mix for mix, v in alone.items() if math.isclose(v.item(), value, rel_tol=1e-12)]
        assert len(found) == 1
        counts[found[0]] += 1
    assert all(15 < count < 45 for count in counts.values()), counts


def test_one_source_for_the_one_mix_that_needs_it(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged", 2)
    features, head = feature_map(len(labels)), pooling_head("avg")
    options = {"pairs": "pos-neg", "strength": 1.0, "lam": 0.3}
    alone = {
        metrix(loss, mix="embed", **options)(x, labels).item(),
        metrix(loss, mix="feature", **options)(x, labels, source=features, encode=head).item(),
    }
    criterion = metrix(loss, mix=("feature", "embed"), **options)
    torch.manual_seed(0)
    values = {criterion(x, labels, source=features, encode=head).item() for _ in range(30)}
    assert values == alone


def test_parameters_are_those_of_the_loss(build: Build) -> None:
    loss = build(CASES["pa"])
    assert [p is q for p, q in zip(metrix(loss).parameters(), loss.parameters(), strict=True)] == [True]


@nothing_to_compare
def test_nothing_is_a_differentiable_zero(backend: str, build: Build, name: str, layout: str) -> None:
    x, labels = batch(layout)
    x = leaf(x)
    value = mx.Metrix(build(CASES[name]), mix="embed")(x, labels)
    value.backward()
    assert value.item() == 0.0
    assert_zero_gradient(x)
