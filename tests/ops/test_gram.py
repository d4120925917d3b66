"""gram on the CPU: symmetric to the bit, and a NaN stays in its row and column; the rest is in test_every_op.py."""

import math

import pytest
import torch

from metrix_ext import native
from metrix_ext.ops.gram import gram
from tests.support.compare import assert_near

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(0, 3), (1, 1), (2, 0), (3, 5), (7, 64), (33, 70), (150, 133), (300, 40)])
def test_matrix_product(n: int, d: int, dtype: torch.dtype) -> None:
    x, grad = torch.randn(n, d, dtype=torch.float64), torch.randn(n, n, dtype=torch.float64)
    leaf = x.to(dtype).requires_grad_()
    products = gram(leaf)
    products.backward(grad.to(dtype))
    bound = 1e-13 if dtype == torch.float64 else 1e-6
    assert torch.equal(products, products.T)
    assert_near(products.detach(), x @ x.T, bound, "products")
    assert_near(leaf.grad, (grad + grad.T) @ x, bound, "gradient")


def test_passes_not_finite_values_on_and_no_further() -> None:
    x = torch.randn(9, 20)
    x[4, 3] = math.nan
    touched = torch.zeros(9, 9, dtype=torch.bool)
    touched[4] = touched[:, 4] = True
    assert torch.equal(gram(x).isnan(), touched)
