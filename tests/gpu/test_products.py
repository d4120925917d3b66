"""Products of large batches on a device: in three parts of bfloat16, never in TF32, on streams and in graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from metrix_ext.ops import float_parts
from metrix_ext.ops.float_parts import Parts
from metrix_ext.ops.gram import gram
from metrix_ext.ops.product import product
from metrix_ext.terms.mixes import all_pairs
from tests.gpu.checks import DEVICE, check_replay, check_stream, on_cuda
from tests.support.compare import assert_near
from tests.support.parts_checks import (
    check_loss_and_gradient,
    check_similarities,
    check_symmetric_product,
    embeddings,
)

pytestmark = on_cuda

multiplies_bfloat16 = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="no tensor cores for bfloat16"
)


@multiplies_bfloat16
@pytest.mark.parametrize(("size", "spread"), [(512, 0.5), (512, 0.2), (128, 0.5), (1000, 0.5)])
def test_accuracy_at_gamma_75(size: int, spread: float) -> None:
    x = embeddings(size, spread, n=1024).to(DEVICE)
    check_similarities(x, torch.mm, slack=2)
    check_loss_and_gradient(x, torch.mm, slack=2)


@multiplies_bfloat16
@pytest.mark.parametrize("n", [1, 1000, 1024])
def test_symmetric_parts(n: int) -> None:
    x = torch.randn(n, n, device=DEVICE)
    for found, expected in zip(Parts.of_symmetric_sum(x), Parts.of(x + x.T), strict=True):
        assert torch.equal(found, expected)


@multiplies_bfloat16
@pytest.mark.parametrize("one_sign", [False, True])
def test_product_with_a_symmetric_sum(one_sign: bool) -> None:
    check_symmetric_product(8192, 512, one_sign, "cuda")


def large(seed: int) -> tuple[Tensor, Tensor]:
    """The smallest matrix that is multiplied in parts, and what comes from above."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    x, grad = (torch.randn(4096, columns, generator=generator, device=DEVICE) for columns in (512, 4096))
    return x.requires_grad_(), grad


def step(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    products = gram(inputs[0])
    return products.detach(), *torch.autograd.grad(products, inputs[0], inputs[1])


@multiplies_bfloat16
def test_large_gram_matrices_are_multiplied_in_parts() -> None:
    inputs = large(0)
    x, grad = inputs[0].detach().double(), inputs[1].double()
    assert float_parts.apply(inputs[0])
    products, gradient = step(inputs)
    assert_near(products, x @ x.T, 1e-6)
    assert_near(gradient, (grad + grad.T) @ x, 2e-6)
    assert torch.equal(step(inputs)[1], gradient)


def test_in_a_graph() -> None:
    check_replay(large, step)


def test_on_the_current_stream() -> None:
    inputs = large(0)
    check_stream(inputs[0], lambda: step(inputs))


@pytest.fixture(params=["high", "medium"])
def tf32_is_allowed(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("n", [300, 4096])
def test_never_in_tf32(tf32_is_allowed: None, n: int) -> None:
    x, grad = large(0)
    x, grad = x[:n].detach().requires_grad_(), grad[:n, :n]
    products, gradient = step((x, grad))
    exact = x.detach().double()
    assert_near(products, exact @ exact.T, 2e-6)
    assert_near(gradient, (grad + grad.T).double() @ exact, 3e-6)
    assert_near(product(grad, x.detach()), grad.double() @ exact, 3e-6)
    assert torch.backends.cuda.matmul.allow_tf32


def test_lists_of_pairs_of_another_stream() -> None:
    """They are made there again: those of this stream may not be written yet."""
    here = all_pairs(37, True, DEVICE)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        there = all_pairs(37, True, DEVICE)
    torch.cuda.synchronize()
    assert here[0].data_ptr() != there[0].data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
