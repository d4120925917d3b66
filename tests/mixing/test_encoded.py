"""Feature maps and images mixed before any encode, against the loop oracle."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metrix_ext as mx
from tests.mixing.against_loops import metrix, random_lambda
from tests.mixing.sources import (
    CHANNELS,
    SmallModel,
    assert_source_like_loops,
    expected_source,
    feature_map,
    mixed_source,
    not_refused,
)
from tests.support.compare import assert_close, assert_same_bits, relative_error
from tests.support.loss_cases import CASES, DIM, batch, leaf
from tests.support.loss_tests import Build


@pytest.mark.parametrize(
    ("name", "pairs"),
    not_refused(["ms", "contrastive-nonzero", "lifted", "pa"], ["pos-neg", "anc-neg", "pos-pos"]),
)
@pytest.mark.parametrize("lam", ["float", "tensor"])
def test_any_encode(backend: str, build: Build, name: str, pairs: str, lam: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged", 2)
    source, model = feature_map(len(labels)), SmallModel(CHANNELS)
    weights = 0.7 if lam == "float" else random_lambda((len(labels), len(labels)))
    assert_source_like_loops(metrix(loss, mix="feature"), case, x, labels, pairs, weights, source, model)


@pytest.mark.parametrize(("name", "pairs"), not_refused(["ms", "contrastive", "nca", "pa"], ["pos-neg", "anc-neg"]))
@pytest.mark.parametrize("hard", ["default", 1, "all"])
def test_images(backend: str, build: Build, name: str, pairs: str, hard: object) -> None:
    """By default only the three hardest negatives of each anchor are mixed."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged", 2)
    generator = torch.Generator().manual_seed(8)
    images = torch.randn(len(labels), 3, 4, 4, generator=generator, dtype=torch.float64)
    model = SmallModel(3)
    lam = random_lambda((len(labels), len(labels)))
    criterion = metrix(loss, mix="input", **({} if hard == "default" else {"hard_negatives": hard}))
    got = mixed_source(criterion, x, labels, pairs, lam, images, model)
    k = {"default": 3, 1: 1, "all": None}[hard]  # type: ignore[index]
    want, every = (
        expected_source(case, loss, x, labels, pairs, lam, images, model, model.parameters(), hardest)
        for hardest in (k, None)
    )
    assert_close(got, want, rtol=1e-8)
    if hard == "default":
        assert relative_error(want[0], every[0]) > 1e-6


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_batch_norm_statistics_move_once(build: Build, norm: type[nn.Module]) -> None:
    """However the backward pass gets its activations, the model sees every mix once."""
    model = nn.Sequential(norm(CHANNELS), nn.Flatten(), nn.Linear(CHANNELS * 6, DIM)).double()
    x, labels = batch("ragged")
    criterion = metrix(build(CASES["ms"]), mix="feature")
    value = criterion.mixed_loss(leaf(x), labels, lam=0.3, source=leaf(feature_map(len(labels))), encode=model)
    before = [b.clone() for b in model.buffers()]
    assert before[0].any()
    value.backward()
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


def test_backward_outside_of_use_backend(build: Build) -> None:
    """What backward computes again is computed on the backend of the forward pass."""
    x, labels = batch("ragged", 2)
    gradients = []
    for inside in (True, False):
        source, encode = leaf(feature_map(len(labels))), SmallModel(CHANNELS)
        with mx.use_backend("reference"):
            value = metrix(build(CASES["ms"]), mix="feature")(x, labels, source=source, encode=encode, seed=1)
            if inside:
                value.backward()
        if not inside:
            value.backward()
        gradients.append(source.grad)
    assert torch.equal(*gradients)


def test_a_retained_graph_goes_back_twice(backend: str, build: Build) -> None:
    """Each backward pass forms the mixes again."""
    x, labels = batch("ragged", 2)
    features = leaf(feature_map(len(labels)))
    criterion = metrix(build(CASES["ms"]), mix="feature")
    loss = criterion(x, labels, source=features, encode=SmallModel(CHANNELS), seed=8)
    first, second = (torch.autograd.grad(loss, features, retain_graph=True) for _ in range(2))
    assert_same_bits(first, second)
