"""From the two sums of every anchor to the loss: sigma and tau of Eq. (3) and the mean of Eq. (10) in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend
from ..formula import Formula, mean
from .library import LIBRARY, implement, kernel, register_autograd

LIBRARY.define("mean_loss(Tensor sums, str sigma, float[] scales, bool relu) -> Tensor")
LIBRARY.define("mean_loss_backward(Tensor grad, Tensor sums, str sigma, float[] scales, bool relu) -> Tensor")


def mean_loss(sums: Tensor, formula: Formula) -> Tensor:
    """The mean of ``formula.per_anchor`` over the anchors, 0 without any.

    Args:
        sums: [m, 2] float32 or float64, logarithms if the formula is exponential.

    Returns:
        A scalar of the same type.
    """
    if backend.choose(sums.device) != "cpu":
        return mean(formula.per_anchor(sums))
    positive, negative = formula.sigma
    return _differentiable(sums, positive.kind, [positive.scale, negative.scale], formula.tau == "relu")


def _loss(sums: Tensor, *formula: Any) -> Tensor:
    sums = sums.contiguous()
    loss = sums.new_empty(())
    kernel("mean_loss", sums.dtype)(len(sums), *formula, sums.data_ptr(), loss.data_ptr())
    return loss


def _gradient(grad: Tensor, sums: Tensor, *formula: Any) -> Tensor:
    sums = sums.contiguous()
    grad_sums = torch.empty_like(sums)
    kernel("mean_loss_backward", sums.dtype)(
        len(sums), *formula, sums.data_ptr(), grad.data_ptr(), grad_sums.data_ptr()
    )
    return grad_sums


_run = implement("mean_loss", _loss, devices=("CPU",))
_run_backward = implement("mean_loss_backward", _gradient, devices=("CPU",))


@torch.library.register_fake("metrix_ext::mean_loss", lib=LIBRARY)
def _loss_fake(sums: Tensor, *_formula: Any) -> Tensor:
    return sums.new_empty(())


@torch.library.register_fake("metrix_ext::mean_loss_backward", lib=LIBRARY)
def _gradient_fake(grad: Tensor, sums: Tensor, *_formula: Any) -> Tensor:
    return sums.new_empty(sums.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    sums, *ctx.formula = inputs
    ctx.save_for_backward(sums)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _run_backward(grad, *ctx.saved_tensors, *ctx.formula), None, None, None


_differentiable = register_autograd("mean_loss", _run, _setup_context, _backward)
