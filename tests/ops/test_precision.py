"""Our products are in full precision, whatever a user allows for those of the network; and the setting stays his."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext import backend
from metrix_ext.ops.gram import gram
from metrix_ext.ops.precision import full_precision
from metrix_ext.ops.product import product
from tests.support.compare import assert_near

UNITS = {"cuda": torch.backends.cuda.matmul, "cpu": torch.backends.mkldnn.matmul}
CPU = torch.device("cpu")


@pytest.fixture(params=["high", "medium"])
def allowed(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What a user allows, by device."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield {name: unit.fp32_precision for name, unit in UNITS.items()}
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The setting of the CPU at every product."""
    settings: list[str] = []
    for name in ("__matmul__", "mm", "matmul"):
        function = getattr(Tensor, name)

        def spy(a: Tensor, b: Tensor, function: Callable[..., Tensor] = function) -> Tensor:
            settings.append(UNITS["cpu"].fp32_precision)
            return function(a, b)

        monkeypatch.setattr(Tensor, name, spy)
    return settings


@pytest.mark.parametrize("kind", UNITS)
def test_the_setting_is_turned_and_turned_back(allowed: dict[str, str], kind: str) -> None:
    assert allowed["cuda"] == "tf32"
    with full_precision(torch.device(kind)), full_precision(torch.device(kind)):
        assert UNITS[kind].fp32_precision == "ieee"
    assert {name: unit.fp32_precision for name, unit in UNITS.items()} == allowed
    with pytest.raises(KeyError), full_precision(torch.device(kind)):
        raise KeyError
    assert UNITS[kind].fp32_precision == allowed[kind]
    assert torch.backends.cuda.matmul.allow_tf32  # the older name for it can still be read


def test_nothing_is_turned_where_products_are_exact() -> None:
    before = {name: unit.fp32_precision for name, unit in UNITS.items()}
    for device in UNITS:
        with full_precision(torch.device(device)):
            assert {name: unit.fp32_precision for name, unit in UNITS.items()} == before


def test_threads_share_the_setting(allowed: dict[str, str]) -> None:
    """One that leaves does not turn it back under another, nor takes what the first has set for the user's."""
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with full_precision(CPU):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with full_precision(CPU):
        thread.start()
        assert inside.wait(10)
    assert UNITS["cpu"].fp32_precision in ("ieee", "none")
    leave.set()
    thread.join(10)
    assert UNITS["cpu"].fp32_precision == allowed["cpu"]


@pytest.mark.parametrize("chosen", ["cuda", "reference"])
def test_gram(monkeypatch: pytest.MonkeyPatch, allowed: dict[str, str], seen: list[str], chosen: str) -> None:
    monkeypatch.setattr(backend, "choose", lambda device: chosen)
    leaf = torch.randn(5, 7, requires_grad=True)
    gram(leaf).sum().backward()
    assert len(seen) == (2 if chosen == "cuda" else 1)  # of the reference torch makes the gradient itself
    assert {*seen} == {"ieee"}


def test_product_and_its_gradients(allowed: dict[str, str], seen: list[str]) -> None:
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    grad = torch.randn(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products = product(a, b)
    products.backward(grad)
    assert seen == ["ieee"] * 3
    a64, b64 = a.detach().double(), b.detach().double()
    assert_near(products.detach(), a64 @ b64, 1e-6)
    assert_near(a.grad, grad.double() @ b64.T, 1e-6)
    assert_near(b.grad, a64.T @ grad.double(), 1e-6)


def test_only_what_is_wanted_of_the_gradients(seen: list[str]) -> None:
    a = torch.randn(5, 7, requires_grad=True)
    product(a, torch.randn(7, 3)).sum().backward()
    assert len(seen) == 2


@pytest.mark.parametrize("loss", [mx.losses.MultiSimilarityLoss(), mx.losses.ProxyAnchorLoss(6, 9)])
def test_every_product_of_a_loss(allowed: dict[str, str], seen: list[str], loss: torch.nn.Module) -> None:
    """With references, or with proxies: no Gram matrix."""
    embeddings, labels = torch.randn(12, 9, requires_grad=True), torch.arange(12) % 6
    proxies = isinstance(loss, mx.losses.ProxyAnchorLoss)
    references = () if proxies else (None, torch.randn(8, 9), torch.arange(8) % 6)
    loss(embeddings, labels, *references).backward()
    assert {*seen} == {"ieee"}
    assert len(seen) == 2 + proxies  # the references have no gradient
