"""What is kept for backward: of the network no more than a micro-batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx
from tests.grad_cache.networks import CHANNELS, batch, criterion, head, in_one_piece


class Kept:
    """A tensor that autograd has saved, counted for as long as it is alive."""

    def __init__(self, tensor: Tensor, count: dict[str, int]) -> None:
        self.tensor, self.count = tensor, count
        self.bytes = 0 if isinstance(tensor, nn.Parameter) else tensor.nbytes
        count["now"] += self.bytes
        count["most"] = max(count["most"], count["now"])

    def __del__(self) -> None:
        self.count["now"] -= self.bytes


def most_kept(run) -> int:
    """The most bytes that autograd keeps at a time for a backward pass, parameters left out."""
    count = {"now": 0, "most": 0}
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Kept(tensor, count), lambda kept: kept.tensor):
        run()
    assert count["now"] == 0
    return count["most"]


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
    activations_of_one = most_kept(lambda: wide()(images[:micro_batch]).sum().backward())
    whole = most_kept(lambda: in_one_piece(mix, images, labels)(criterion("ms", mix), wide(), head()))
    kept = most_kept(lambda: step(mix, n, micro_batch))
    assert whole > 0.9 * (n / micro_batch) * activations_of_one
    others = images.nbytes if mix == "input" else 0  # of n mixes at a time the images are kept
    assert kept < 1.5 * activations_of_one + 2 * others, (kept, activations_of_one)


@pytest.mark.parametrize("mix", ["none", "embed", "feature"])
def test_a_larger_batch_keeps_nothing_more_of_the_network(mix: str) -> None:
    small, large = (most_kept(lambda n=n: step(mix, n, 4)) for n in (16, 48))
    assert large < 1.5 * small


def test_nothing_is_kept_in_the_first_pass() -> None:
    kept: list[bool] = []
    network = nn.Sequential(wide(), nn.Flatten(), nn.Linear(CHANNELS * 4, 5).double())
    network.register_forward_hook(lambda module, inputs, output: kept.append(output.requires_grad))
    mx.GradCache(criterion("ms", "none"), network, micro_batch=4)(*batch(10))
    assert kept == [False] * 3 + [True] * 3
