"""A product of two matrices in full precision, and its gradients likewise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend
from .checks.tensors import check_matrix
from .library import LIBRARY, implement, register_autograd
from .precision import full_precision


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, [m, d] and [d, n] to [m, n], in the type of both also under autocast and where TF32 is allowed.

    Args:
        a, b: float32 or float64, of the same type and on the same device.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    _check(a, b)
    return _product(a, b) if backend.choose(a.device) == "reference" else _differentiable(a, b)


def _check(a: Tensor, b: Tensor) -> None:
    check_matrix("a", a)
    check_matrix("b", b)
    if a.dtype != b.dtype:
        raise TypeError(f"b: got {b.dtype}, expected {a.dtype} as a")
    if a.device != b.device:
        raise ValueError(f"b: is on {b.device}, expected {a.device} as a")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"b: got {list(b.shape)}, expected [{a.shape[1]}, n] for a of {list(a.shape)}")


LIBRARY.define("product(Tensor a, Tensor b) -> Tensor")


def _product(a: Tensor, b: Tensor) -> Tensor:
    with full_precision(a.device):
        return a @ b


@torch.library.register_fake("metrix_ext::product", lib=LIBRARY)
def _fake(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty((a.shape[0], b.shape[1]))


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = ctx.saved_tensors
    of_a, of_b = ctx.needs_input_grad
    return _run(grad, b.T) if of_a else None, _run(a.T, grad) if of_b else None


_run = implement("product", _product)
_differentiable = register_autograd("product", _run, _setup_context, _backward)
