"""Inner products of the rows of a matrix with each other: half the work of a product of two matrices each way on a CPU,
on tensor cores where a GPU has them and the matrix is large."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend, native
from . import float_parts
from .checks.tensors import check_matrix
from .launch import where
from .library import LIBRARY, implement, register_autograd
from .precision import full_precision


def gram(x: Tensor) -> Tensor:
    """x x^T.

    Args:
        x: [n, d] float32 or float64; the products are of this type also under autocast and where TF32 is allowed.

    Returns:
        [n, n], on the CPU symmetric to the bit.

    Raises:
        TypeError, ValueError: x is not as above.
    """
    check_matrix("x", x)
    return _products(x) if backend.choose(x.device) == "reference" else _differentiable(x)


LIBRARY.define("gram(Tensor x) -> Tensor")
LIBRARY.define("gram_backward(Tensor grad, Tensor x) -> Tensor")


def _products(x: Tensor) -> Tensor:
    chosen = backend.choose(x.device)
    if chosen in ("cuda", "triton") and float_parts.apply(x):
        return float_parts.gram(x)
    if chosen != "cpu":
        with full_precision(x.device):
            return x @ x.T
    x = x.contiguous()
    rows, columns = x.shape
    products = x.new_empty((rows, rows))
    native.typed("gram", x.dtype)(where(x), rows=rows, columns=columns, x=x, products=products)
    return products


def _gradient(grad: Tensor, x: Tensor) -> Tensor:
    chosen = backend.choose(x.device)
    # Triton has no kernel for the parts of grad, and others take too long.
    if chosen == "cuda" and float_parts.apply(x):
        return float_parts.symmetric_product(grad, x)
    if chosen != "cpu":
        with full_precision(x.device):
            return (grad + grad.T) @ x
    grad, x = grad.contiguous(), x.contiguous()
    rows, columns = x.shape
    grad_x = torch.empty_like(x)
    native.typed("gram_backward", x.dtype)(where(x), rows=rows, columns=columns, x=x, grad=grad, grad_x=grad_x)
    return grad_x


@torch.library.register_fake("metrix_ext::gram", lib=LIBRARY)
def _forward_fake(x: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[0]))


@torch.library.register_fake("metrix_ext::gram_backward", lib=LIBRARY)
def _backward_fake(grad: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return _run_backward(grad, *ctx.saved_tensors)


_run = implement("gram", _products)
_run_backward = implement("gram_backward", _gradient)
_differentiable = register_autograd("gram", _run, _setup_context, _backward)
