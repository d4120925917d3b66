"""What the tests share: the backends, the emulated device, and the losses as the package builds them."""

import functools
import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import metrix_ext as mx
from tests.emulation.device import emulated
from tests.support.loss_cases import DIM, NUM_CLASSES, Case


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)  # every worker has a core; two threads each would wait for one another


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For tests of what depends on how work is shared out, whatever the number of threads that others run with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def needs_emulation(item: pytest.Item) -> bool:
    return "device" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, as one that a worker began last would leave the others without work; those on the emulated
    device last, as it is compiled while the others run."""
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, needs_emulation(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """One worker starts compiling; the others, and the tests themselves, find the result or wait for it."""
    first_worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if first_worker and not session.config.option.collectonly and any(map(needs_emulation, session.items)):
        emulated.build_in_background()


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
def emulated_device() -> Callable[[bool], emulated.Device]:
    """The device with normal or with tiny blocks, made once."""
    return functools.cache(lambda tiny: emulated.Device(emulated.build(tiny), tiny))


@pytest.fixture(params=[False], ids=["normal"])
def device(
    request: pytest.FixtureRequest, emulated_device: Callable[[bool], emulated.Device], monkeypatch: pytest.MonkeyPatch
) -> Iterator[emulated.Device]:
    """The CUDA kernels in the place of the CPU's; see tests/emulation/device."""
    device = emulated_device(request.param)
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
