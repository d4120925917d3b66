"""The small ops around the sums, class_order, unit_rows and mean_loss, against what they are in plain PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import metrix_ext as mx
from metrix_ext import native
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.unit_rows import unit_rows
from metrix_ext.terms.formula import Formula, mean
from tests.support.problems import check_class_order

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))

TYPES = [torch.float32, torch.float64]


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-13, "atol": 1e-15} if dtype == torch.float64 else {"rtol": 2e-6, "atol": 1e-7}


# ---- class_order ----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_class_order_is_a_stable_sort(labels: list[int]) -> None:
    check_class_order(torch.tensor(labels, dtype=torch.int64))


def test_class_order_of_many_and_of_strided_labels() -> None:
    labels = torch.randint(0, 300, (5000, 2))
    check_class_order(labels[:, 0])


# ---- unit_rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (33, 512), (0, 4), (130, 65)])
def test_unit_rows(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    x[::3] *= 1e-14  # below the smallest norm
    order, weights = torch.randperm(shape[0]), torch.randn(shape, dtype=torch.float64)
    exact, leaf = x.clone().requires_grad_(), x.to(dtype).requires_grad_()
    expected, unit = F.normalize(exact)[order], unit_rows(leaf, order)
    (expected * weights).sum().backward()
    (unit * weights.to(dtype)).sum().backward()
    assert unit.dtype == dtype
    torch.testing.assert_close(unit.double(), expected, **tolerance(dtype))
    torch.testing.assert_close(
        leaf.grad.double(), exact.grad, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=1e-5
    )


def test_unit_rows_keeps_a_nan_in_its_row() -> None:
    x = torch.randn(4, 6)
    x[2, 1] = math.nan
    assert unit_rows(x, torch.tensor([3, 2, 1, 0])).isnan().any(1).tolist() == [False, True, False, False]


# ---- mean_loss ------------------------------------------------------------------------------------------------

FORMULAS = [
    loss.formula for loss in (mx.losses.ContrastiveLoss(), mx.losses.LiftedStructureLoss(), mx.losses.NCALoss())
]
FORMULAS += [mx.losses.MultiSimilarityLoss().formula, mx.losses.BinomialDevianceLoss().formula]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dtype", TYPES)
def test_mean_loss_is_the_formula(formula: Formula, dtype: torch.dtype) -> None:
    empty = -math.inf if formula.exponential else 0.0
    extremes = torch.tensor([[empty, 1.0], [2.0, empty], [empty, empty], [90.0, -90.0], [-800.0, 800.0], [0.0, 0.0]])
    for clean in (torch.cat((4 * torch.randn(40, 2), extremes)), torch.zeros(0, 2)):
        exact = [t.double().requires_grad_() for t in (clean, clean.flip(0))]
        leaves = [t.detach().to(dtype).requires_grad_() for t in exact]
        alone, expected = mean(formula.per_anchor(exact[0])), mean(formula.per_anchor(exact[1]))
        loss = mean_loss(leaves[0], formula, leaves[1], 0.3)
        (3 * (alone + 0.3 * expected)).backward()
        (3 * loss).backward()
        assert loss.shape == () and loss.dtype == dtype
        torch.testing.assert_close(loss.detach().double(), (alone + 0.3 * expected).detach(), **tolerance(dtype))
        torch.testing.assert_close(mean_loss(leaves[0], formula).detach().double(), alone.detach(), **tolerance(dtype))
        for leaf, truth in zip(leaves, exact, strict=True):
            torch.testing.assert_close(leaf.grad.double(), truth.grad, **tolerance(dtype))
    assert mean_loss(torch.tensor([[math.nan, 1.0], [1.0, 1.0]], dtype=dtype), formula).isnan()
