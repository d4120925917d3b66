"""The criterion with its clean and its mixed part, for whoever logs them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.batch import batch as batches
from tests.mixing.against_loops import every_set, metrix
from tests.mixing.sources import feature_map, pooling_head
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, DIM, batch, leaf
from tests.support.loss_tests import Build, default_case, gradients


@default_case
@every_set
@pytest.mark.parametrize("hard", [None, 2])
def test_of_embeddings(backend: str, build: Build, name: str, pairs: str, hard: int | None) -> None:
    """The bits of forward, the clean loss, and the mixed one without its strength."""
    loss = build(CASES[name])
    x, labels = batch("ragged")
    criterion = metrix(loss, pairs=pairs, strength=0.7, lam="pair", hard_negatives=hard)
    inp, inp2 = leaf(x), leaf(x)
    parts = criterion.parts(inp, labels, seed=4)
    want = criterion(inp2, labels, seed=4)
    assert_same_bits(
        gradients(parts.loss, [inp, *loss.parameters()]), gradients(want, [inp2, *loss.parameters()]), "forward"
    )
    assert not parts.clean.requires_grad and not parts.mixed.requires_grad
    mixed = criterion.mixed_loss(x, labels, pairs=pairs, seed=4)
    assert_close([parts.clean, parts.mixed], [loss(x, labels), mixed], rtol=1e-12)
    assert_close([parts.clean + 0.7 * parts.mixed], [want], rtol=1e-12)


@pytest.mark.parametrize("pool", ["avg", "avg+max"])
def test_of_features(backend: str, build: Build, pool: str) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged", 2)
    given = {"source": feature_map(len(labels)), "encode": pooling_head(pool), "seed": 8}
    criterion = metrix(loss, mix="feature")
    parts = criterion.parts(x, labels, **given)
    want = [criterion(x, labels, **given), loss(x, labels), criterion.mixed_loss(x, labels, **given)]
    assert_close(list(parts), want, rtol=1e-12)


def test_nothing_mixed_is_none(build: Build) -> None:
    x, labels = batch("ragged")
    parts = metrix(build(CASES["ms"]), strength=0.0).parts(x, labels)
    assert parts.mixed is None
    assert_same_bits([parts.loss], [parts.clean])


def test_compiles_as_one_graph(backend: str, build: Build) -> None:
    torch.compiler.reset()
    criterion = metrix(build(CASES["ms"]), strength=0.7, lam=0.3)
    x, labels = batch("ragged")
    got = torch.compile(criterion.parts, fullgraph=True, backend="aot_eager")(x, labels)
    assert_close(list(got), list(criterion.parts(x, labels)), rtol=1e-12)


def test_similarities_are_computed_once(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(x: Tensor, y: Tensor) -> Tensor:
        calls.append(x.shape)
        return x @ y.T

    monkeypatch.setattr(batches, "inner_products", counted)
    x, labels = batch("ragged")
    metrix(build(CASES["ms"])).parts(x, labels)
    metrix(build(CASES["ms"]), hard_negatives=2).parts(x, labels)
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["ms", "contrastive-mean", "pa"])
def test_no_device_is_waited_for(build: Build, name: str) -> None:
    """On the meta device there is no value to wait for."""
    labels = torch.empty(8, dtype=torch.int64, device="meta")
    loss = build(CASES[name], dtype=torch.float32).to("meta")
    x = torch.empty(8, DIM, device="meta", requires_grad=True)
    parts = mx.Metrix(loss, mix="embed").parts(x, labels)
    assert [part.shape for part in parts] == [(), (), ()]
    parts.loss.backward()
