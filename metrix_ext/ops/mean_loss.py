"""From the two sums of every anchor to the error: sigma and tau of Eq. (3) and the means of Eq. (10) in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend, native
from ..terms.formula import Formula, mean
from .checks.batch import check_mean_loss
from .launch import where
from .library import LIBRARY, implement, register_autograd


def mean_loss(sums: Tensor, formula: Formula, mixed: Tensor | None = None, strength: float = 0.0) -> Tensor:
    """The mean of ``formula.per_anchor`` over the anchors, 0 without any; of two kinds of sums, a weighted total.

    Args:
        sums: [m, 2] float32 or float64, logarithms if the formula is exponential.
        mixed: [m, 2] likewise; their mean is added, times strength.

    Returns:
        A scalar of the same type.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    strength = check_mean_loss(sums, mixed, strength)
    if backend.choose(sums.device) == "reference":
        loss = mean(formula.per_anchor(sums))
        return loss if mixed is None else loss + strength * mean(formula.per_anchor(mixed))
    positive, negative = formula.sigma
    scales = [positive.scale, negative.scale]
    return _differentiable(sums, mixed, strength, positive.kind, scales, formula.tau == "relu")


# ---- schema ---------------------------------------------------------------------------------------------------

_ARGUMENTS = "Tensor sums, Tensor? mixed, float strength, str sigma, float[] scales, bool relu"
LIBRARY.define(f"mean_loss({_ARGUMENTS}) -> Tensor")
LIBRARY.define(f"mean_loss_backward(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor)")


# ---- implementation -------------------------------------------------------------------------------------------


def _loss(sums: Tensor, mixed: Tensor | None, strength: float, sigma: str, scales: list[float], relu: bool) -> Tensor:
    sums, mixed = sums.contiguous(), None if mixed is None else mixed.contiguous()
    if backend.choose(sums.device) == "triton":
        from .triton import mean_loss as kernels

        return kernels.mean_loss(sums, mixed, strength, sigma, scales, relu)
    loss = sums.new_empty(())
    native.typed("mean_loss", sums.dtype)(
        where(sums),
        anchors=sums.shape[0],
        sigma=sigma,
        scales=scales,
        relu=relu,
        strength=strength,
        clean=sums,
        mixed=mixed,
        loss=loss,
    )
    return loss


def _gradient(
    grad: Tensor, sums: Tensor, mixed: Tensor | None, strength: float, sigma: str, scales: list[float], relu: bool
) -> tuple[Tensor, Tensor]:
    sums, mixed = sums.contiguous(), None if mixed is None else mixed.contiguous()
    if backend.choose(sums.device) == "triton":
        from .triton import mean_loss as kernels

        return kernels.mean_loss_backward(grad, sums, mixed, strength, sigma, scales, relu)
    grad_sums, grad_mixed = torch.empty_like(sums), sums.new_empty(0) if mixed is None else torch.empty_like(mixed)
    native.typed("mean_loss_backward", sums.dtype)(
        where(sums),
        anchors=sums.shape[0],
        sigma=sigma,
        scales=scales,
        relu=relu,
        strength=strength,
        clean=sums,
        mixed=mixed,
        grad_loss=grad,
        grad_clean=grad_sums,
        grad_mixed=grad_mixed,
    )
    return grad_sums, grad_mixed


# ---- fake -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("metrix_ext::mean_loss", lib=LIBRARY)
def _loss_fake(sums: Tensor, *_others: Any) -> Tensor:
    return sums.new_empty(())


@torch.library.register_fake("metrix_ext::mean_loss_backward", lib=LIBRARY)
def _gradient_fake(grad: Tensor, sums: Tensor, mixed: Tensor | None, *_others: Any) -> tuple[Tensor, Tensor]:
    return sums.new_empty(sums.shape), sums.new_empty((0,) if mixed is None else mixed.shape)


# ---- backward -------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    sums, mixed, *ctx.others = inputs
    ctx.save_for_backward(sums, mixed)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    sums, mixed = ctx.saved_tensors
    grad_sums, grad_mixed = _run_backward(grad, sums, mixed, *ctx.others)
    return (grad_sums, None if mixed is None else grad_mixed, *(None for _ in ctx.others))


# ---- registration ---------------------------------------------------------------------------------------------

_run_backward = implement("mean_loss_backward", _gradient)
_differentiable = register_autograd("mean_loss", implement("mean_loss", _loss), _setup_context, _backward)
