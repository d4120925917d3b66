"""Multi-similarity and proxy anchor against pytorch-metric-learning."""

from __future__ import annotations

import pytest
import torch

from tests.losses.against_loops import some_pairs, value_and_gradients
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, DIM, NUM_CLASSES, batch
from tests.support.loss_tests import Build

pml = pytest.importorskip("pytorch_metric_learning.losses")


@pytest.mark.parametrize("layout", ["two unlike", "three", "one class", "singletons", "pairs", "ragged"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multi_similarity(backend: str, build: Build, layout: str, dtype: torch.dtype) -> None:
    x, labels = batch(layout)
    x = x.to(dtype)
    theirs = pml.MultiSimilarityLoss(alpha=18, beta=75, base=0.77)
    got = value_and_gradients(build(CASES["ms"]), x, labels)
    want = value_and_gradients(theirs, x, labels)
    assert_close(got, want, *((1e-10, 1e-13) if dtype == torch.float64 else (2e-5, 1e-6)))


def test_multi_similarity_with_a_miner(backend: str, build: Build) -> None:
    x, labels = batch("ragged")
    chosen = some_pairs(labels, labels, same_batch=True)
    theirs = pml.MultiSimilarityLoss(alpha=18, beta=75, base=0.77)
    got = value_and_gradients(build(CASES["ms"]), x, labels, indices_tuple=chosen)
    assert_close(got, value_and_gradients(theirs, x, labels, indices_tuple=chosen), rtol=1e-10)


@pytest.mark.parametrize("layout", ["one", "two unlike", "three", "one class", "singletons", "ragged"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_proxy_anchor(backend: str, build: Build, layout: str, dtype: torch.dtype) -> None:
    x, labels = batch(layout)
    x = x.to(dtype)
    ours = build(CASES["pa"], dtype=dtype)
    theirs = pml.ProxyAnchorLoss(NUM_CLASSES, DIM, margin=0.1, alpha=32).to(dtype)
    with torch.no_grad():
        theirs.proxies.copy_(ours.proxies)
    got, want = value_and_gradients(ours, x, labels), value_and_gradients(theirs, x, labels)
    assert_close(got, want, *((1e-10, 1e-13) if dtype == torch.float64 else (2e-5, 1e-6)))
