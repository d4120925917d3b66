"""Whole criteria on a GPU: each mix on both native backends against float64 on the CPU, in graphs, under autocast."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext import backend
from tests.support.compare import assert_near

DEVICE = torch.device("cuda")
N, K, CHANNELS, SIZE = 60, 5, 96, 64

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")


@pytest.fixture(params=["cuda", "triton"], autouse=True)
def native_backend(request: pytest.FixtureRequest):
    if reason := backend.why_not(request.param):
        pytest.skip(reason)
    with mx.use_backend(request.param):
        yield request.param


class Training:
    """A head on feature maps, and the gradients that a step leaves."""

    def __init__(self, mix: str, device: torch.device, dtype: torch.dtype = torch.float32, **arguments: object) -> None:
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(N, CHANNELS, 7, 7, generator=generator, dtype=torch.float64).relu()
        features = features.to(device, dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(SIZE, CHANNELS, generator=generator, dtype=torch.float64)
        self.features = features.requires_grad_()
        self.labels = (torch.arange(N) // K)[torch.randperm(N, generator=generator)].to(device)
        self.head = mx.heads.PoolingHead(CHANNELS, SIZE).to(device, dtype)
        with torch.no_grad():
            self.head.linear.weight.copy_(weight / CHANNELS**0.5)
        loss = mx.losses.MultiSimilarityLoss()
        self.criterion = mx.Metrix(loss, mix=mix, **{"pairs": "pos-neg", **arguments})
        self.mix = mix

    def step(self) -> Tensor:
        embeddings = self.head(self.features)
        mixing = {} if self.mix == "embed" else {"source": self.features, "encode": self.head}
        loss = self.criterion(embeddings, self.labels, seed=3, **mixing)
        loss.backward()
        return loss.detach()

    def result(self) -> list[Tensor]:
        gradients = [self.features.grad, self.head.linear.weight.grad, self.head.linear.bias.grad]
        self.features.grad = None
        self.head.zero_grad()
        return [g.double().cpu() for g in gradients if g is not None]


def exact(mix: str, **arguments: object) -> list[Tensor]:
    training = Training(mix, torch.device("cpu"), torch.float64, **arguments)
    with mx.use_backend("auto"):
        loss = training.step()
    return [loss.double(), *training.result()]


def assert_all_near(got: list[Tensor], want: list[Tensor], bound: float) -> None:
    """The loss and the gradients of a step."""
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_near(a, b, bound, f"tensor {k}")


@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos"])
@pytest.mark.parametrize("lam", ["pair", "batch"])
@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_criterion(mix: str, lam: str, pairs: str) -> None:
    training = Training(mix, DEVICE, pairs=pairs, lam=lam, strength=0.4)
    loss = training.step()
    assert_all_near([loss.double(), *training.result()], exact(mix, pairs=pairs, lam=lam, strength=0.4), 1e-4)


@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_hard_negatives(mix: str) -> None:
    training = Training(mix, DEVICE, hard_negatives=3)
    loss = training.step()
    assert_all_near([loss.double(), *training.result()], exact(mix, hard_negatives=3), 1e-4)


@pytest.mark.parametrize("workspace", [1, 2**20])
def test_chunks_of_features(workspace: int) -> None:
    training = Training("feature", DEVICE, workspace=workspace)
    loss = training.step()
    assert_all_near([loss.double(), *training.result()], exact("feature"), 1e-4)


@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_in_a_cuda_graph(mix: str) -> None:
    """A replay gives the bits of the eager step, on the data that is there then."""
    training = Training(mix, DEVICE)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            training.step()
            training.result()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = training.step()
    captured = training.features.grad, training.head.linear.weight.grad
    with torch.no_grad():
        training.features.mul_(1.25).add_(0.01)
        training.labels.copy_(training.labels.roll(7))
    graph.replay()
    got = [loss.clone(), *(g.clone() for g in captured if g is not None)]
    training.features.grad = None
    training.head.zero_grad()
    eager = training.step()
    want = [eager, training.features.grad, training.head.linear.weight.grad]
    for a, b in zip(got, want, strict=True):
        assert b is not None and torch.equal(a, b)


@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_does_not_wait_for_the_device(mix: str) -> None:
    training = Training(mix, DEVICE)
    training.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one device only")
@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_another_device_than_the_current_one(mix: str) -> None:
    with torch.cuda.device(0):
        training = Training(mix, torch.device("cuda:1"))
        loss = training.step()
        assert loss.device.index == 1
        assert torch.cuda.current_device() == 0
    assert_all_near([loss.double(), *training.result()], exact(mix), 1e-4)


@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
def test_a_whole_step_is_few_kernels(native_backend: str, pairs: str) -> None:
    """E of Eq. (10) at a batch of 100, forward and backward, besides the products of cuBLAS."""
    if native_backend != "cuda":
        pytest.skip("PyTorch does what surrounds the sums")
    embeddings = torch.randn(100, 512, device=DEVICE, requires_grad=True)
    labels, upstream = torch.arange(100, device=DEVICE) // 5, torch.ones((), device=DEVICE)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="embed", pairs=pairs)
    criterion(embeddings, labels).backward(upstream)
    embeddings.grad = None
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        criterion(embeddings, labels).backward(upstream)
        torch.cuda.synchronize()
    names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [name for name in names if "gemm" not in name and "cutlass" not in name and "splitK" not in name]
    assert 0 < len(kernels) <= 12, kernels


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    """Within the rounding of the half type of the exact result."""
    training = Training("feature", DEVICE)
    with torch.autocast("cuda", dtype):
        embeddings = training.head(training.features)
        loss = training.criterion(embeddings, training.labels, source=training.features, encode=training.head, seed=3)
    loss.backward()
    loose = 0.02 if dtype == torch.float16 else 0.15
    assert_all_near([loss.detach().double(), *training.result()], exact("feature"), loose)


@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_repeats_to_the_bit(mix: str) -> None:
    training = Training(mix, DEVICE)
    runs = []
    for _ in range(2):
        loss = training.step()
        runs.append([loss.double().cpu(), *training.result()])
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)
