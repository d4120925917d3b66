"""Products of bfloat16 matrices as tensor cores form them, and of float32 ones by multiply-adds: on the CPU.

A model: a step adds 16 exact products to the sum, and what does not fit into its 24 bits is cut off (Fasi et al. 2021;
16 is that of Hopper, Khattak and Mikaitis 2025, arXiv 2512.07004). Hardware also cuts off the products, a few bits
further right. A multiply-add rounds to nearest.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metrix_ext.ops import float_parts
from metrix_ext.ops.float_parts import Parts

STEP = 16


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b of bfloat16 matrices, in float32."""
    assert a.dtype == b.dtype == torch.bfloat16
    total = torch.zeros(len(a), b.shape[1], dtype=torch.float64)
    for left, right in zip(a.double().split(STEP, dim=1), b.double().split(STEP), strict=True):
        total = _cut_to_float32(total + left @ right)
    return total.float()


def add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return total.add_(product(a, b))


def multiply_adds(a: Tensor, b: Tensor) -> Tensor:
    """a b of float32 matrices, each element by one chain of multiply-adds, as a thread of a plain kernel does."""
    total = torch.zeros(len(a), b.shape[1])
    for left, right in zip(a.double().unbind(1), b.double().unbind(), strict=True):
        total = torch.addcmul(total.double(), left[:, None], right[None]).float()
    return total


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets float_parts run on CPU tensors."""
    monkeypatch.setattr(float_parts, "_product", product)
    monkeypatch.setattr(float_parts, "_add_product", add_product)
    monkeypatch.setattr(Parts, "of_symmetric_sum", lambda x: Parts.of(x + x.T))


def _cut_to_float32(x: Tensor) -> Tensor:
    """Towards 0. A double has 29 bits more."""
    return (x.view(torch.int64) & -(2**29)).view(torch.float64)
