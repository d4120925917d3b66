"""Memory of a step: of the network's activations no more than those of a micro-batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import metrix_ext as mx
from tests.grad_cache.networks import CHANNELS, batch, criterion, head, in_one_piece


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors that were made inside and still exist: activations, gradients, what is in between."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address not in self.known:
            self.known.add(address)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._remove, address, storage.nbytes())

    def _remove(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def most_alive(run: Callable[[], Any]) -> int:
    with Alive() as alive:
        run()
    return alive.most


def wide() -> nn.Module:
    """Its activations are a hundred times what it returns."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 64, 3, padding=1)
    return nn.Sequential(convolution, nn.Tanh(), nn.Conv2d(64, CHANNELS, 3), nn.Tanh(), nn.AvgPool2d(3)).double()


def step(mix: str, n: int, micro_batch: int) -> None:
    mx.GradCache(criterion("ms", mix), wide(), head(), micro_batch)(*batch(n))


@pytest.mark.parametrize("mix", ["none", "embed", "feature", "input"])
def test_activations_of_one_micro_batch(mix: str) -> None:
    n, micro_batch = 32, 4
    images, labels = batch(n)
    one = most_alive(lambda: wide()(images[:micro_batch]).sum().backward())
    whole = most_alive(lambda: in_one_piece(mix, images, labels)(criterion("ms", mix), wide(), head()))
    assert whole > 5 * one
    assert most_alive(lambda: step(mix, n, micro_batch)) < 1.25 * one


@pytest.mark.parametrize("mix", ["none", "embed", "feature"])
def test_a_larger_batch_needs_little_more(mix: str) -> None:
    small, large = (most_alive(lambda n=n: step(mix, n, 4)) for n in (16, 64))
    assert large < 1.25 * small


def test_nothing_is_kept_in_the_first_pass() -> None:
    kept: list[bool] = []
    network = nn.Sequential(wide(), nn.Flatten(), nn.Linear(CHANNELS * 4, 5).double())
    network.register_forward_hook(lambda module, inputs, output: kept.append(output.requires_grad))
    mx.GradCache(criterion("ms", "none"), network, micro_batch=4)(*batch(10))
    assert kept == [False] * 3 + [True] * 3


def test_a_batch_that_fits_runs_once() -> None:
    calls: list[bool] = []
    network = nn.Sequential(wide(), nn.Flatten(), nn.Linear(CHANNELS * 4, 5).double())
    network.register_forward_hook(lambda module, inputs, output: calls.append(output.requires_grad))
    mx.GradCache(criterion("ms", "none"), network, micro_batch=10)(*batch(10))
    assert calls == [True]


def test_feature_maps_are_gone_when_their_gradient_is_known() -> None:
    network, table, maps, alive = wide(), criterion("ms", "feature"), [], []

    def remember(module: nn.Module, args: Any, kwargs: Any) -> None:
        maps.append(weakref.ref(kwargs["source"]["feature"]))

    table.register_forward_pre_hook(remember, with_kwargs=True)
    network.register_forward_hook(lambda *_: alive.extend(ref() is not None for ref in maps))
    mx.GradCache(table, network, head(), micro_batch=4)(*batch(10))
    assert alive == [False] * 3
