"""The second pass is the first once more: random numbers, batch norm, autocast, the scaler."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metrix_ext as mx
from tests.grad_cache.networks import (
    CHANNELS,
    DIM,
    Run,
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
from tests.support.compare import assert_close, relative_error


class Recording(nn.Module):
    """Passes on what it gets, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return x


@pytest.mark.parametrize("mix", ["none", "feature"])
def test_dropout_draws_the_same_again(mix: str) -> None:
    recording = Recording()
    network = nn.Sequential(backbone(), nn.Dropout(0.5), recording).train()
    network[0].eval()
    mx.GradCache(criterion("ms", mix), network, head(), micro_batch=5)(*batch())
    first, second = recording.seen[:3], recording.seen[3:]
    assert [len(x) for x in first] == [5, 5, 2]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1] == 0)


def test_gradients_with_dropout_are_those_of_what_it_has_drawn() -> None:
    """One piece, with the masks that the micro-batches had."""
    recording = Recording()
    network, last, table = nn.Sequential(backbone(), nn.Dropout(0.5), recording), head(), loss("ms")
    images, labels = batch()
    network[1].train()
    got = [mx.GradCache(table, network, last, micro_batch=5)(images, labels), *gradients_of([network, last])]
    mask = 2.0 * (torch.cat(recording.seen[:3]) != 0)
    network.zero_grad()
    last.zero_grad()
    value = table(last(network[0](images) * mask), labels)
    value.backward()
    assert_close(got, [value.detach(), *gradients_of([network, last])], rtol=1e-11)


def test_the_next_step_draws_anew() -> None:
    """The generator goes on from where the loss has left it, which draws lambda."""
    network, last, table = nn.Sequential(backbone(), nn.Dropout(0.5)), head(), criterion("ms", "embed")
    network[1].train()
    images, labels = batch()
    torch.manual_seed(0)
    mx.GradCache(table, network, last, micro_batch=6)(images, labels)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    table(torch.cat([last(network(x)) for x in images.split(6)]), labels)
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize("mix", ["none", "feature", "input"])
def test_batch_norm_statistics_move_in_the_first_pass_only(mix: str) -> None:
    network, same = backbone().train(), backbone().train()
    images, labels = batch()
    table = criterion("ms", mix)
    table = mx.Metrix(table.loss, mix=mix, pairs="pos-neg", strength=0.0) if mix == "input" else table
    mx.GradCache(table, network, head(), micro_batch=5)(images, labels)
    with torch.no_grad():
        for x in images.split(5):
            same(x)
    assert network[1].num_batches_tracked == 3
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), same.buffers(), strict=True))


def test_batch_norm_statistics_of_mixed_images_move_once() -> None:
    """Every mix is in the network three times, and counts when the loss is computed."""
    network, table, sizes = backbone().train(), criterion("ms", "input"), []
    network[1].register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    counted = []
    table.register_forward_hook(lambda *_: counted.extend([len(sizes), *map(torch.clone, network.buffers())]))
    mx.GradCache(table, network, head(), micro_batch=5)(*batch())
    forwards, *statistics = counted
    images, mixes = 3, forwards - 3
    assert mixes > 0 and len(sizes) == 2 * images + 3 * mixes and max(sizes) == 5
    assert network[1].num_batches_tracked == forwards
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), statistics, strict=True))


def test_a_whole_batch_in_training_mode_is_batch_norms() -> None:
    modules = criterion("ms", "feature"), backbone().train(), head()
    want = loss_and_gradients(in_one_piece("feature", *batch()), *modules)
    assert_close(loss_and_gradients(in_micro_batches(*batch(), 12), *modules), want, rtol=1e-12)


@pytest.mark.parametrize("mix", ["none", "feature", "input"])
def test_autocast(mix: str) -> None:
    """bfloat16 in all passes, and as near to one piece as that is to float32."""
    modules = [module.float() for module in (criterion("ms", mix), backbone(), head())]
    images, labels = batch()
    images = images.float()
    whole, parts = in_one_piece(mix, images, labels), in_micro_batches(images, labels, 5)
    exact = loss_and_gradients(whole, *modules)
    want, got = (loss_and_gradients(under_autocast(run), *modules) for run in (whole, parts))
    assert all(relative_error(g, w) < 0.02 for g, w in zip(got, want, strict=True))
    assert relative_error(got[1], exact[1]) > 1e-4


def under_autocast(run: Run) -> Run:
    def run_there(*modules: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return run(*modules)

    return run_there


def test_autocast_casts_in_both_passes() -> None:
    """Without its cache, which would keep weights that the first pass has cast without a graph."""
    network, seen = backbone().float(), []
    network[0].register_forward_hook(
        lambda module, inputs, output: seen.append((output.dtype, torch.is_autocast_cache_enabled()))
    )
    images, labels = batch()
    run = in_micro_batches(images.float(), labels, 5)
    under_autocast(run)(loss("ms").float(), network, head().float())
    assert seen == [(torch.bfloat16, False)] * 6
    run(loss("ms").float(), network, head().float())
    assert seen[6:] == [(torch.float32, True)] * 6


class InFloat32(nn.Module):
    """A layer that does not follow autocast, and whose gradients bfloat16 would spoil."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(inputs, DIM)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return F.normalize(self.linear(x.flatten(1)))


@pytest.mark.parametrize("mix", ["none", "feature"])
def test_backward_leaves_autocast(mix: str) -> None:
    """Of the network, and of a head behind the cut."""
    modules = criterion("ms", mix).float(), nn.AvgPool2d(2), InFloat32(48)
    images, labels = batch()
    results = []
    for enabled in (False, True):
        modules[2].zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            mx.GradCache(*modules, micro_batch=5)(images.float(), labels)
        results.append([parameter.grad.clone() for parameter in modules[2].parameters()])
    assert_close(results[1], results[0], rtol=1e-6)


@pytest.mark.parametrize("micro_batch", [5, 12])
@pytest.mark.parametrize("mix", ["none", "feature"])
def test_scaled_gradients(mix: str, micro_batch: int) -> None:
    """The loss is not scaled, the gradients are; the scaler's step takes it back."""
    modules = criterion("pa", mix), backbone(), head()
    want = loss_and_gradients(in_micro_batches(*batch(), micro_batch), *modules)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    got = loss_and_gradients(in_micro_batches(*batch(), micro_batch, scaler=scaler), *modules)
    assert_close(got, [want[0], *(1024 * gradient for gradient in want[1:])], rtol=1e-12)


def test_channels_last_features_stay_so() -> None:
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), nn.Tanh()).double().to(memory_format=torch.channels_last)
    last, recording = head(), Recording()
    images, labels = batch()
    step = mx.GradCache(criterion("ms", "feature"), network, nn.Sequential(recording, last), micro_batch=5)
    step(images.to(memory_format=torch.channels_last), labels)
    assert recording.seen[0].is_contiguous(memory_format=torch.channels_last)
