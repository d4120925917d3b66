"""A step in micro-batches: the loss and all gradients of the whole batch in one piece."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metrix_ext as mx
from tests.grad_cache.networks import (
    backbone,
    batch,
    criterion,
    gradients_of,
    head,
    in_micro_batches,
    in_one_piece,
    loss,
    loss_and_gradients,
)
from tests.support.compare import assert_close

LOSSES = ["ms", "pa", "contrastive"]
MIXES = ["none", "embed", "feature", "input"]
N = 12
MICRO_BATCHES = [1, 4, 5, N - 1, N, 100]  # one at a time, dividing the batch or not, the whole of it


@pytest.mark.parametrize("micro_batch", MICRO_BATCHES)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_one_piece(backend: str, name: str, mix: str, micro_batch: int) -> None:
    modules = criterion(name, mix), backbone(), head()
    want = loss_and_gradients(in_one_piece(mix, *batch(N)), *modules)
    got = loss_and_gradients(in_micro_batches(*batch(N), micro_batch), *modules)
    assert_close(got, want, rtol=1e-11)


def test_the_loss_is_a_scalar_without_graph() -> None:
    value = in_micro_batches(*batch(), 5)(criterion("ms", "embed"), backbone(), head())
    assert value.shape == () and not value.requires_grad


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_heads_that_are_mixed_otherwise(pool: str) -> None:
    modules = criterion("ms", "feature"), backbone(), head(pool)
    want = loss_and_gradients(in_one_piece("feature", *batch()), *modules)
    assert_close(loss_and_gradients(in_micro_batches(*batch(), 5), *modules), want, rtol=1e-11)


def test_any_of_several_mixes() -> None:
    mix = ("input", "feature", "embed")
    modules = criterion("ms", mix), backbone(), head()
    values = set()
    for seed in range(8):
        runs = in_one_piece(mix, *batch()), in_micro_batches(*batch(), 5)
        want, got = (loss_and_gradients(seeded(run, seed), *modules) for run in runs)
        assert_close(got, want, rtol=1e-11)
        values.add(got[0].item())
    assert len(values) == 8


def seeded(run, seed):
    def with_seed(*modules: nn.Module) -> Tensor:
        torch.manual_seed(seed)
        return run(*modules)

    return with_seed


def test_a_backbone_that_gives_embeddings() -> None:
    network, table = nn.Sequential(backbone(), head()), criterion("ms", "embed")
    want = loss_and_gradients(in_one_piece("embed", *batch()), table, *network)
    value = mx.GradCache(table, network, micro_batch=5)
    torch.manual_seed(4)
    assert_close([value(*batch()), *gradients_of([network])], want, rtol=1e-11)


def test_gradients_are_added() -> None:
    modules = criterion("pa", "feature"), backbone(), head()
    once = loss_and_gradients(in_micro_batches(*batch(), 5), *modules)

    def twice(*modules: nn.Module) -> Tensor:
        step = mx.GradCache(*modules, micro_batch=5)
        step(*batch())
        torch.manual_seed(4)
        return step(*batch())

    assert_close(loss_and_gradients(twice, *modules)[1:], [2 * g for g in once[1:]], rtol=1e-12)


@pytest.mark.parametrize("mix", MIXES)
def test_a_frozen_backbone(mix: str) -> None:
    """As in the first epochs, when only the head and the proxies learn."""
    frozen = backbone().requires_grad_(False)
    modules = criterion("pa", mix), frozen, head()

    def gradients(run) -> list[Tensor]:
        torch.manual_seed(4)
        proxies, network, last = (deepcopy(module) for module in modules)
        value = run(proxies, network, last)
        assert all(parameter.grad is None for parameter in network.parameters())
        return [value, *gradients_of([proxies, last])]

    assert_close(gradients(in_micro_batches(*batch(), 5)), gradients(in_one_piece(mix, *batch())), rtol=1e-11)


def test_gradients_of_the_images() -> None:
    results = []
    for micro_batch in (12, 5):
        images, labels = batch()
        images.requires_grad_()
        torch.manual_seed(4)
        mx.GradCache(criterion("ms", "feature"), backbone().requires_grad_(False), head(), micro_batch)(images, labels)
        results.append(images.grad)
    assert_close(results[1:], results[:1], rtol=1e-11)


def test_arguments_of_the_criterion() -> None:
    """The seed of lambda, and references that the embeddings are compared with."""
    modules = criterion("ms", "embed"), backbone(), head()
    images, labels = batch()
    values = [mx.GradCache(*modules, micro_batch=5)(images, labels, seed=seed) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    refs, ref_labels = F.normalize(torch.randn(9, 5, dtype=torch.float64)), torch.arange(9) % 4
    got = mx.GradCache(loss("ms"), *modules[1:], micro_batch=5)(images, labels, ref_emb=refs, ref_labels=ref_labels)
    want = loss("ms")(modules[2](modules[1](images)), labels, ref_emb=refs, ref_labels=ref_labels)
    assert_close([got], [want.detach()], rtol=1e-11)


class Mined(nn.Module):
    """Only pairs of similarity below one half: what a miner chooses depends on the embeddings of all."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, embeddings: Tensor, labels: Tensor, **arguments: object) -> Tensor:
        chosen = (embeddings @ embeddings.T < 0.5).detach()
        alike = labels[:, None] == labels[None, :]
        pairs = (*(chosen & alike).nonzero().T, *(chosen & ~alike).nonzero().T)
        return self.inner(embeddings, labels, pairs, **arguments)


@pytest.mark.parametrize("mix", ["none", "feature"])
def test_a_module_around_the_criterion(mix: str) -> None:
    """What mixes is found inside it, and it sees the whole batch at once."""
    modules = Mined(criterion("ms", mix)), backbone(), head()
    want = loss_and_gradients(in_one_piece(mix, *batch()), *modules)
    without = loss_and_gradients(in_one_piece(mix, *batch()), modules[0].inner, *modules[1:])
    assert_close(loss_and_gradients(in_micro_batches(*batch(), 5), *modules), want, rtol=1e-11)
    assert want[0] != without[0]
