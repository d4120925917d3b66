"""Products in three parts of bfloat16: how exact they are on emulated tensor cores, and when they are taken."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from metrix_ext import backend
from metrix_ext.ops import float_parts
from metrix_ext.ops.gram import gram
from tests.support import tensor_cores
from tests.support.compare import relative_error
from tests.support.parts_checks import (
    check_loss_and_gradient,
    check_similarities,
    check_symmetric_product,
    embeddings,
    root_mean_square,
)


@pytest.fixture(autouse=True)
def emulated_products(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor_cores.install(monkeypatch)


def test_three_parts_hold_a_float32() -> None:
    x = torch.randn(1000) * torch.logspace(-20, 20, 1000)
    high, middle, low = (part.double() for part in float_parts.Parts.of(x))
    assert torch.equal(high + middle + low, x.double())


@pytest.mark.parametrize(("size", "spread"), [(512, 0.5), (512, 0.2), (128, 0.5), (1000, 0.5), (300, 0.5), (5, 0.5)])
def test_similarities_are_as_exact_as_in_float32(size: int, spread: float) -> None:
    check_similarities(embeddings(size, spread), tensor_cores.multiply_adds)


@pytest.mark.parametrize(("size", "spread"), [(512, 0.5), (512, 0.2), (128, 0.5)])
def test_loss_and_gradient_at_gamma_75(size: int, spread: float) -> None:
    check_loss_and_gradient(embeddings(size, spread), tensor_cores.multiply_adds)


def test_two_parts_or_another_order_would_not_do() -> None:
    x = embeddings(512, 0.5)
    exact = x.double() @ x.double().T
    high, middle, low = float_parts.Parts.of(x)
    bound = 2 * root_mean_square(float_parts.gram(x) - exact)
    pairs = [(high, high), (high, middle), (middle, high), (middle, middle), (high, low), (low, high)]
    for order in (pairs, pairs[3::-1]):
        left, right = (torch.cat(factors, dim=1) for factors in zip(*order, strict=True))
        assert root_mean_square(tensor_cores.product(left, right.T) - exact) > bound


@pytest.mark.parametrize(("n", "size"), [(1024, 64), (300, 7), (1, 1)])
@pytest.mark.parametrize("one_sign", [False, True])
def test_product_with_a_symmetric_sum(n: int, size: int, one_sign: bool) -> None:
    check_symmetric_product(n, size, one_sign, "cpu")


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_gram_takes_parts_where_they_apply(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Backward only where there is a kernel for the parts of its weights."""
    monkeypatch.setattr(backend, "choose", lambda device: name)
    monkeypatch.setattr(float_parts, "apply", lambda x: True)
    called = []
    for part in ("gram", "symmetric_product"):
        function = getattr(float_parts, part)
        monkeypatch.setattr(float_parts, part, lambda *a, f=function, part=part: called.append(part) or f(*a))
    x, grad = torch.randn(40, 70), torch.randn(40, 40)
    leaf = x.clone().requires_grad_()
    products = gram(leaf)
    products.backward(grad)
    assert called == ["gram"] + ["symmetric_product"] * (name == "cuda")
    exact = x.double()
    assert relative_error(products.detach(), exact @ exact.T) < 1e-6
    assert relative_error(leaf.grad, (grad + grad.T).double() @ exact) < 1e-6


def matrix(**changes: object) -> SimpleNamespace:
    """A large matrix on a device, as far as apply() looks at it."""
    given = {"shape": (4096, 512), "is_cuda": True, "dtype": torch.float32, "device": torch.device("cuda", 0)}
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    ("x", "capability", "expected"),
    [
        (matrix(), (8, 0), True),
        (matrix(), (9, 0), True),
        (matrix(), (7, 5), False),
        (matrix(shape=(4088, 512)), (9, 0), False),
        (matrix(shape=(4100, 512)), (9, 0), False),
        (matrix(shape=(4096, 516)), (9, 0), False),
        (matrix(is_cuda=False), (9, 0), False),
        (matrix(dtype=torch.float64), (9, 0), False),
    ],
)
def test_where_parts_apply(
    monkeypatch: pytest.MonkeyPatch, x: SimpleNamespace, capability: tuple[int, int], expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(float_parts, "_multiply_bfloat16", float_parts._multiply_bfloat16.__wrapped__)
    assert float_parts.apply(x) is expected
    monkeypatch.setattr(float_parts, "_WANTED", "0")
    assert not float_parts.apply(x)


def test_the_switch_is_0_or_1() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import metrix_ext"],
        env={**os.environ, "METRIX_TENSOR_CORES": "off"},
        capture_output=True,
        text=True,
    )
    assert "METRIX_TENSOR_CORES: got 'off', expected 0 or 1" in done.stderr
