"""What the tests share: the backends, and the losses as the package builds them."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import metrix_ext as mx
from tests.emulation.device import emulated
from tests.support.lock import one_worker_at_a_time
from tests.support.loop_oracle import DIM, NUM_CLASSES, Case


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)  # every worker has a core; two threads each would wait for one another


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: one that a worker began last would leave the others without work."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For tests of what depends on how work is shared out, whatever the number of threads that others run with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run under one backend; where it cannot run, its own message is the reason for skipping."""
    try:
        context = mx.use_backend(request.param)
        context.__enter__()
    except (RuntimeError, ImportError) as why:
        pytest.skip(f"backend {request.param}: {why}")
    try:
        yield request.param
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def emulated_devices() -> dict[bool, emulated.Device]:
    with one_worker_at_a_time("emulation"):  # compiles, unless another worker has
        libraries = {tiny: emulated.build(*[emulated.TINY_BLOCKS] * tiny) for tiny in (False, True)}
    return {tiny: emulated.Device(library, tiny) for tiny, library in libraries.items()}


@pytest.fixture(params=[False], ids=["normal"])
def device(
    request: pytest.FixtureRequest, emulated_devices: dict[bool, emulated.Device], monkeypatch: pytest.MonkeyPatch
) -> Iterator[emulated.Device]:
    """The CUDA kernels in the place of the CPU's; see cuda_emulation."""
    device = emulated_devices[request.param]
    emulated.install(device, monkeypatch)
    yield device
    device.run_backwards(False)


@pytest.fixture(scope="session")
def build() -> Callable[..., nn.Module]:
    """build(case, seed=0, dtype=float64, **options): the package's module of a case, proxies drawn."""

    def module(case: Case, seed: int = 0, dtype: torch.dtype = torch.float64, **options: object) -> nn.Module:
        sizes = {"num_classes": NUM_CLASSES, "embedding_size": DIM} if case.has_proxies else {}
        sizes.update({k: options.pop(k) for k in tuple(sizes) if k in options})  # type: ignore[misc]
        loss: nn.Module = getattr(mx.losses, case.cls)(**sizes, **case.arguments, **options)
        loss = loss.to(dtype)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return loss

    return module
