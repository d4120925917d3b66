"""class_order, unit_rows and mean_loss on the emulated device, and how many kernels the whole of Eq. (10) launches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import metrix_ext as mx
from metrix_ext import backend
from metrix_ext.ops import library
from metrix_ext.ops.float_parts import Parts
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.unit_rows import unit_rows
from metrix_ext.terms.formula import mean
from tests.emulation.device import emulated
from tests.support.compare import assert_elements_near
from tests.support.problems import check_class_order

TYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("n", [0, 1, 100, 256, 700])
def test_class_order(device: emulated.Device, n: int) -> None:
    for low, high in ((-3, 30), (-(2**62), 2**62), (7, 8)):
        check_class_order(torch.randint(low, high, (n,)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (10, 31), (7, 32), (5, 100)])
def test_unit_rows(device: emulated.Device, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x, weights, order = torch.randn(shape), torch.randn(shape), torch.randperm(shape[0])
    x[::3] *= 1e-14  # below the smallest norm
    exact, leaf = x.double().requires_grad_(), x.to(dtype).requires_grad_()
    (F.normalize(exact)[order] * weights).sum().backward()
    unit = unit_rows(leaf, order)
    (unit * weights).sum().backward()
    rtol = 1e-5 if dtype == torch.float32 else 1e-13
    assert_elements_near(unit, F.normalize(exact)[order], rtol, 1e-7)
    assert_elements_near(leaf.grad, exact.grad, 100 * rtol, 100 * rtol)
    if shape[0] > 1:
        bad = unit_rows(torch.cat((torch.full((1, shape[1]), math.nan), x[1:])).to(dtype), torch.arange(shape[0]))
        assert bad.isnan().any(1).tolist() == [True] + [False] * (shape[0] - 1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("loss", ["ContrastiveLoss", "LiftedStructureLoss", "NCALoss", "MultiSimilarityLoss"])
@pytest.mark.parametrize("anchors", [0, 1, 300])
def test_mean_loss(device: emulated.Device, loss: str, dtype: torch.dtype, anchors: int) -> None:
    formula = getattr(mx.losses, loss)().formula
    exact = [(9 * torch.randn(anchors, 2, dtype=torch.float64)) for _ in range(2)]
    if formula.exponential and anchors:
        exact[0][0, 1] = exact[1][-1, 0] = -math.inf
    for with_mixed in (False, True):
        truth, leaves = ([t.detach().to(d).requires_grad_() for t in exact] for d in (torch.float64, dtype))
        expected, strength = mean(formula.per_anchor(truth[0])), 0.4 if with_mixed else 0.0
        expected = expected + strength * mean(formula.per_anchor(truth[1]))
        value = mean_loss(leaves[0], formula, leaves[1] if with_mixed else None, strength)
        expected.backward()
        value.backward()
        rtol = 1e-12 if dtype == torch.float64 else 1e-5
        assert_elements_near(value, expected, rtol, rtol)
        for leaf, true in zip(leaves[: 1 + with_mixed], truth, strict=False):
            assert_elements_near(leaf.grad, true.grad, rtol, rtol)


class CountedKernels(TorchDispatchMode):
    """Counts the calls of PyTorch that launch a kernel on a device; products of matrices apart, since cuBLAS runs
    them."""

    VIEWS = ("detach", "view", "t", "transpose", "diagonal", "permute", "select", "slice", "unsqueeze", "as_strided")
    ALLOCATIONS = ("empty", "empty_like", "new_empty")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.products = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.overloadpacket.__name__
        self.products += name == "mm"
        if name not in (*self.VIEWS, *self.ALLOCATIONS, "mm"):
            self.names.append(name)
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("pairs", "renormalize", "launches"),
    [("clean", False, 7), ("pos-neg", False, 10), ("anc-neg", False, 10), ("pos-neg", True, 12), ("anc-neg", True, 12)],
)
def test_launches_of_a_whole_step(
    device: emulated.Device, monkeypatch: pytest.MonkeyPatch, pairs: str, renormalize: bool, launches: int
) -> None:
    """E at a batch of 100, forward and backward: our kernels, and PyTorch's besides two products of matrices."""
    monkeypatch.setattr(backend, "choose", lambda device: "cuda")
    monkeypatch.setattr(library, "is_plain", lambda arguments: True)  # who counts has no say in how ops are called
    loss = mx.losses.MultiSimilarityLoss()
    mixed = pairs != "clean"
    criterion = mx.Metrix(loss, mix="embed", pairs=pairs, renormalize=renormalize) if mixed else loss
    embeddings = torch.randn(100, 16, requires_grad=True)
    labels = (torch.arange(100) // 5)[torch.randperm(100)]
    monkeypatch.setattr(Tensor, "new_empty", emulated.NEW_EMPTY)  # without the NaN that would count as a kernel
    monkeypatch.setattr(torch, "empty", emulated.EMPTY)
    monkeypatch.setattr(torch, "empty_like", emulated.EMPTY_LIKE)
    before = device.launches()
    with CountedKernels() as ours:
        error = criterion(embeddings, labels)
        error.backward(torch.ones(()))
    ours.names.remove("ones")
    # The seed of lambda; the two halves of the gradient of the inner products, and what comes through the norms.
    assert sorted(ours.names) == ["add"] * (1 + renormalize) + ["randint"] * mixed
    assert device.launches() - before == launches
    assert ours.products == 2


@pytest.mark.parametrize("n", [0, 1, 31, 32, 100])
def test_symmetric_parts(device: emulated.Device, n: int) -> None:
    """The parts that PyTorch's operations give, the same on both sides of the diagonal."""
    x = torch.randn(n, n) * torch.logspace(-20, 20, max(n, 1))[:n]
    before = device.launches()
    parts = Parts.of_symmetric_sum(x)
    assert device.launches() - before == (n > 0)
    for found, expected in zip(parts, Parts.of(x + x.T), strict=True):
        assert torch.equal(found, expected)
        assert torch.equal(found, found.T)


def test_symmetric_parts_of_what_is_not_finite(device: emulated.Device) -> None:
    x = torch.randn(70, 70)
    x[40, 3] = math.nan
    x[3, 65] = math.inf
    bad = torch.zeros(70, 70, dtype=torch.bool)
    for row, column in ((40, 3), (3, 65)):
        bad[row, column] = bad[column, row] = True
    assert torch.equal(~sum(part.float() for part in Parts.of_symmetric_sum(x)).isfinite(), bad)
