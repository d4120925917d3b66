"""Zero vectors, NaN, strides, nothing to compare."""

from __future__ import annotations

import pytest
import torch

from tests.losses.against_loops import expected, value_and_gradients
from tests.support.compare import assert_close, assert_zero_gradient
from tests.support.loss_cases import CASES, batch, leaf
from tests.support.loss_tests import Build, default_case, nothing_to_compare


@default_case
def test_zero_vectors(backend: str, build: Build, name: str) -> None:
    """A zero vector has similarity 0 with everything; the others get their gradients as ever."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    x[0], x[3] = 0.0, 0.0
    got, want = value_and_gradients(loss, x, labels), expected(case, loss, x, labels)
    others = [1, 2, 4, 5, 6, 7]
    assert torch.isfinite(got[1]).all()
    assert_close([got[0], got[1][others], *got[2:]], [want[0], want[1][others], *want[2:]], rtol=1e-10)


@default_case
def test_non_contiguous(backend: str, build: Build, name: str) -> None:
    x, labels = batch("ragged")
    loss = build(CASES[name])
    want = value_and_gradients(loss, x, labels)
    transposed = x.t().contiguous().t()
    strided = torch.stack([x, x + 1], dim=2)[:, :, 0]
    labels_strided = torch.stack([labels, labels + 1], dim=1)[:, 0]
    for view in (transposed, strided):
        assert not view.is_contiguous()
        inp = view.detach().requires_grad_()
        value = loss(inp, labels_strided)
        assert_close([value.detach(), torch.autograd.grad(value, inp)[0]], want[:2], rtol=1e-11)


@default_case
def test_upstream_gradient(backend: str, build: Build, name: str) -> None:
    x, labels = batch("ragged")
    loss = build(CASES[name])
    want = value_and_gradients(loss, x, labels)[1]
    x = leaf(x)
    (loss(x, labels) * -3.0).backward()
    assert_close([x.grad], [-3.0 * want], rtol=1e-12)


@nothing_to_compare
def test_nothing_to_compare_is_a_differentiable_zero(backend: str, build: Build, name: str, layout: str) -> None:
    loss = build(CASES[name])
    x, labels = batch(layout)
    x = leaf(x)
    value = loss(x, labels)
    value.backward()
    assert value.item() == 0.0
    assert_zero_gradient(x)


@pytest.mark.parametrize("name", ["lifted", "nca"])
@pytest.mark.parametrize("layout", ["one class", "singletons"])
def test_undefined_anchors(backend: str, build: Build, name: str, layout: str) -> None:
    x, labels = batch(layout)
    x = leaf(x)
    value = build(CASES[name])(x, labels)
    value.backward()
    assert value.item() == 0.0
    assert_zero_gradient(x)


@default_case
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_not_finite_in_nan_out(backend: str, build: Build, name: str, bad: float) -> None:
    x, labels = batch("ragged")
    x[2, 1] = bad
    assert build(CASES[name])(x, labels).isnan()


@default_case
def test_nan_without_normalising(backend: str, build: Build, name: str) -> None:
    x, labels = batch("ragged")
    x[2, 1] = float("nan")
    x = leaf(x)
    value = build(CASES[name], normalize=False)(x, labels)
    value.backward()
    assert value.isnan()
    assert x.grad is not None
    assert x.grad.isnan().any()


@default_case
def test_without_gradients(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("ragged")
    want = value_and_gradients(loss, x, labels)[0]
    with torch.no_grad():
        value = loss(x, labels)
    assert not value.requires_grad
    assert_close([value], [want], rtol=1e-13)
