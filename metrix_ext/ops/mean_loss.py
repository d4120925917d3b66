"""From the two sums of every anchor to the error: sigma and tau of Eq. (3) and the means of Eq. (10) in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import backend
from ..terms.formula import Formula, mean
from .launch import launch
from .library import LIBRARY, implement, register_autograd
from .signature import Signature, contiguous


def mean_loss(sums: Tensor, formula: Formula, mixed: Tensor | None = None, strength: float = 0.0) -> Tensor:
    """The mean of ``formula.per_anchor`` over the anchors, 0 without any; of two kinds of sums, a weighted total.

    Args:
        sums: [m, 2] float32 or float64, logarithms if the formula is exponential.
        mixed: [m, 2] likewise; their mean is added, times strength.

    Returns:
        A scalar of the same type.
    """
    if backend.choose(sums.device) not in ("cpu", "cuda"):
        loss = mean(formula.per_anchor(sums))
        return loss if mixed is None else loss + strength * mean(formula.per_anchor(mixed))
    positive, negative = formula.sigma
    arguments = MeanLossArguments(
        sums=sums,
        mixed=mixed,
        strength=strength,
        sigma=positive.kind,
        scales=[positive.scale, negative.scale],
        relu=formula.tau == "relu",
    )
    return _differentiable(*arguments)


# ---- schema ---------------------------------------------------------------------------------------------------


class MeanLossArguments(NamedTuple):
    """As the registered op takes them."""

    sums: Tensor
    mixed: Tensor | None
    strength: float
    sigma: str
    scales: list[float]
    relu: bool


SIGNATURE = Signature(MeanLossArguments)
LIBRARY.define(f"mean_loss({SIGNATURE.schema}) -> Tensor")
LIBRARY.define(f"mean_loss_backward(Tensor grad, {SIGNATURE.schema}) -> (Tensor, Tensor)")


# ---- implementation -------------------------------------------------------------------------------------------


def _loss(*given: Any) -> Tensor:
    a = contiguous(MeanLossArguments(*given))
    loss = a.sums.new_empty(())
    _launch("mean_loss", a, loss=loss)
    return loss


def _gradient(grad: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    a = contiguous(MeanLossArguments(*given))
    grad_sums = torch.empty_like(a.sums)
    grad_mixed = a.sums.new_empty(0) if a.mixed is None else torch.empty_like(a.mixed)
    _launch("mean_loss_backward", a, grad_loss=grad, grad_clean=grad_sums, grad_mixed=grad_mixed)
    return grad_sums, grad_mixed


def _launch(name: str, a: MeanLossArguments, **others: Tensor) -> None:
    launch(
        name,
        a.sums.dtype,
        a.sums,
        anchors=len(a.sums),
        sigma=a.sigma,
        scales=a.scales,
        relu=a.relu,
        strength=a.strength,
        clean=a.sums,
        mixed=a.mixed,
        **others,
    )


# ---- fake -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("metrix_ext::mean_loss", lib=LIBRARY)
def _loss_fake(sums: Tensor, *_others: Any) -> Tensor:
    return sums.new_empty(())


@torch.library.register_fake("metrix_ext::mean_loss_backward", lib=LIBRARY)
def _gradient_fake(grad: Tensor, sums: Tensor, mixed: Tensor | None, *_others: Any) -> tuple[Tensor, Tensor]:
    return sums.new_empty(sums.shape), sums.new_empty((0,) if mixed is None else mixed.shape)


# ---- backward -------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    SIGNATURE.save(ctx, inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    _, a = SIGNATURE.saved(ctx)
    grad_sums, grad_mixed = _run_backward(grad, *a)
    return SIGNATURE.gradients(sums=grad_sums, mixed=None if a.mixed is None else grad_mixed)


# ---- registration ---------------------------------------------------------------------------------------------

_run_backward = implement("mean_loss_backward", _gradient)
_differentiable = register_autograd("mean_loss", implement("mean_loss", _loss), _setup_context, _backward)
