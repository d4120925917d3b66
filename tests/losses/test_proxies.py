"""Losses with proxies: their one parameter, and what does not fit it."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.support.loss_cases import CASES, DIM, NUM_CLASSES, batch
from tests.support.loss_tests import Build, proxy_case


@proxy_case
def test_proxies_are_the_only_parameter(build: Build, name: str) -> None:
    loss = build(CASES[name])
    (parameter,) = loss.parameters()
    assert parameter.shape == (NUM_CLASSES, DIM)
    assert parameter.requires_grad
    x, labels = batch("ragged")
    twin = build(CASES[name], seed=99)
    assert loss(x, labels).item() != twin(x, labels).item()
    twin.load_state_dict(loss.state_dict())
    assert torch.equal(loss(x, labels), twin(x, labels))
    assert torch.equal(copy.deepcopy(loss)(x, labels), loss(x, labels))


@pytest.mark.parametrize("name", ["pa", "pa-paper", "proxynca", "proxynca++"])
def test_nan_in_a_proxy(backend: str, build: Build, name: str) -> None:
    x, labels = batch("ragged")
    loss = build(CASES[name])
    with torch.no_grad():
        loss.proxies[2, 0] = float("nan")
    assert loss(x, labels).isnan()


@proxy_case
def test_embeddings_of_another_size_than_the_proxies(build: Build, name: str) -> None:
    with pytest.raises(ValueError, match="embedding"):
        build(CASES[name])(torch.zeros(4, DIM + 1, dtype=torch.float64), torch.tensor([0, 0, 1, 1]))


@proxy_case
@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_labels_without_a_proxy(build: Build, name: str, label: int) -> None:
    with pytest.raises(ValueError, match="labels"):
        build(CASES[name])(torch.zeros(4, DIM, dtype=torch.float64), torch.tensor([0, 0, 1, label]))
