"""Mixes of feature maps, pooled over positions; the mixed maps are never formed.

    pooled[p, c] = max over hw of (lambda F_i[c, hw] + (1 - lambda) F_j[c, hw])
                   + lambda avg_i[c] + (1 - lambda) avg_j[c]                       (averages given)

The average pool commutes with mixing, so only the maximum sees positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.mixes import Mixes
from .checks.mixes import check_mix_pool
from .checks.tensors import check_contiguous
from .launch import where
from .library import LIBRARY, implement, register_autograd
from .maps import compute_dtype, evenly_spaced, strides
from .signature import Signature, schema
from .tracing import may_need_gradient


def mix_pool(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None = None) -> Tensor:
    """The pooled mixes of feature maps.

    Args:
        features: [n, c, h, w] float16, bfloat16, float32 or float64, contiguous or channels_last; h w < 2^15.
        order: [n] int64, a permutation: example e of the mixes is features[order[e]].
        mixes: lambda in float64 for float64 features, in float32 otherwise. No gradient flows to it.
        averages: [n, c] in the type of lambda: the features averaged over positions, where those are to be added.

    Returns:
        [p, c] in the type of the features. Of equal maxima the first takes the gradient.

    Raises:
        TypeError, ValueError: an argument is not as above.
        RuntimeError: a backend asked for by name cannot run on these tensors.
    """
    check_mix_pool(features, order, mixes, averages)
    if backend.choose(features.device) == "reference":
        return reference.mix_pool(features, order, mixes, averages)
    pooled, _argmax = _differentiable(features, order, *mixes.tensors, averages, may_need_gradient(features))
    return pooled


# ---- schema ---------------------------------------------------------------------------------------------------


class MixPoolArguments(NamedTuple):
    """As the registered op takes them."""

    features: Tensor
    order: Tensor
    first: Tensor
    second: Tensor
    lam: Tensor
    begin: Tensor
    uses: Tensor
    averages: Tensor | None
    with_argmax: bool

    @property
    def mixes(self) -> Mixes:
        return Mixes(self.first, self.second, self.lam, self.begin, self.uses)


SIGNATURE = Signature(MixPoolArguments)
LIBRARY.define(f"mix_pool({SIGNATURE.schema}) -> (Tensor, Tensor)")
LIBRARY.define(
    f"mix_pool_backward(Tensor grad_pooled, Tensor argmax, Tensor features, Tensor order, {schema(Mixes)}, "
    "bool with_averages) -> (Tensor, Tensor)"
)


# ---- implementation -------------------------------------------------------------------------------------------


def _forward(*given: Any) -> tuple[Tensor, Tensor]:
    a = MixPoolArguments(*given)
    pooled, argmax = _outputs(a)
    fill(a.features, a.order, a.mixes, a.averages, pooled, argmax if a.with_argmax else None)
    return pooled, argmax


def fill(
    features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None, pooled: Tensor, argmax: Tensor | None
) -> None:
    """Writes the pooled mixes [p, c], and where their maxima are unless that is None. No gradient is recorded."""
    features = evenly_spaced(features)
    averages = None if averages is None else averages.contiguous()
    if backend.choose(features.device) == "triton":
        from .triton import mix_pool as kernels

        kernels.mix_pool(features, order, mixes, averages, pooled, argmax)
    elif features.device.type == "cpu" and features.dtype in (torch.float16, torch.bfloat16):
        exact = torch.empty_like(pooled, dtype=torch.float32)
        fill(features.float(), order, mixes, averages, exact, argmax)
        pooled.copy_(exact)
    else:
        launch_forward(features, order.contiguous(), mixes.contiguous(), averages, pooled, argmax)


def launch_forward(
    features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None, pooled: Tensor, argmax: Tensor | None
) -> None:
    """The native kernel: features are evenly spaced, all else is contiguous."""
    native.typed("mix_pool", compute_dtype(features))(
        where(features),
        _native(features, order, mixes),
        element=native.element(features.dtype),
        features=features,
        averages=averages,
        pooled=pooled,
        argmax=argmax,
    )


def _gradients(
    grad_pooled: Tensor, argmax: Tensor, features: Tensor, order: Tensor, *mixes_and_with_averages: Any
) -> tuple[Tensor, Tensor]:
    """Of features and averages; that of the averages is empty if there are none."""
    *listed, with_averages = mixes_and_with_averages
    mixes = Mixes(*listed)
    grad_features, grad_averages = _zero_gradients(features, mixes.lam, with_averages)
    add_gradients(grad_pooled, argmax, order, mixes, grad_features, grad_averages if with_averages else None)
    return grad_features.to(features.dtype), grad_averages


def _zero_gradients(features: Tensor, lam: Tensor, with_averages: bool) -> tuple[Tensor, Tensor]:
    of_features = torch.zeros_like(evenly_spaced(features), dtype=lam.dtype)
    return of_features, lam.new_zeros(features.shape[:2] if with_averages else 0)


def add_gradients(
    grad_pooled: Tensor,
    argmax: Tensor,
    order: Tensor,
    mixes: Mixes,
    grad_features: Tensor,
    grad_averages: Tensor | None,
) -> None:
    """Adds to grad_features and grad_averages, which are in the type of lambda."""
    if grad_averages is not None:
        check_contiguous("grad_averages", grad_averages)
    if backend.choose(grad_pooled.device) == "triton":
        from .triton import mix_pool as kernels

        kernels.mix_pool_backward(grad_pooled, argmax, order, mixes, grad_features, grad_averages)
        return
    if grad_pooled.device.type == "cpu":
        grad_pooled = grad_pooled.to(mixes.lam.dtype)
    grad_pooled, argmax, order = grad_pooled.contiguous(), argmax.contiguous(), order.contiguous()
    launch_backward(grad_pooled, argmax, order, mixes.contiguous(), grad_features, grad_averages)


def launch_backward(
    grad_pooled: Tensor,
    argmax: Tensor,
    order: Tensor,
    mixes: Mixes,
    grad_features: Tensor,
    grad_averages: Tensor | None,
) -> None:
    """The native kernel: grad_features is evenly spaced, all else is contiguous."""
    native.typed("mix_pool_backward", compute_dtype(grad_features))(
        where(grad_features),
        _native(grad_features, order, mixes),
        element=native.element(grad_pooled.dtype),
        grad_pooled=grad_pooled,
        argmax=argmax,
        grad_features=grad_features,
        grad_averages=grad_averages,
    )


def _native(features: Tensor, order: Tensor, mixes: Mixes) -> Any:
    """The native struct, for feature maps laid out as these; the caller keeps the tensors alive."""
    layout = strides(features)
    assert layout is not None
    image_stride, channel_stride, position_stride = layout
    channels, height, width = features.shape[1:]
    return native.typed("MixPoolArgs", mixes.lam.dtype)(
        mixes=mixes,
        channels=channels,
        positions=height * width,
        order=order,
        image_stride=image_stride,
        channel_stride=channel_stride,
        position_stride=position_stride,
    )


def _outputs(a: MixPoolArguments) -> tuple[Tensor, Tensor]:
    pooled = a.features.new_empty((a.first.shape[0], a.features.shape[1]))
    return pooled, a.features.new_empty(pooled.shape if a.with_argmax else 0, dtype=torch.int16)


# ---- fake -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("metrix_ext::mix_pool", lib=LIBRARY)
def _forward_fake(*given: Any) -> tuple[Tensor, Tensor]:
    return _outputs(MixPoolArguments(*given))


@torch.library.register_fake("metrix_ext::mix_pool_backward", lib=LIBRARY)
def _backward_fake(
    grad_pooled: Tensor, argmax: Tensor, features: Tensor, order: Tensor, *mixes_and_with_averages: Any
) -> tuple[Tensor, Tensor]:
    *listed, with_averages = mixes_and_with_averages
    grad_features, grad_averages = _zero_gradients(features, Mixes(*listed).lam, with_averages)
    return grad_features.to(features.dtype), grad_averages


# ---- backward -------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a = MixPoolArguments(*inputs)
    _pooled, argmax = output
    ctx.save_for_backward(argmax, a.features, a.order, *a.mixes.tensors)
    ctx.with_averages = a.averages is not None


def _backward(ctx: Any, grad_pooled: Tensor, _grad_argmax: Tensor) -> tuple[Tensor | None, ...]:
    grad_features, grad_averages = _run_backward(grad_pooled, *ctx.saved_tensors, ctx.with_averages)
    return SIGNATURE.gradients(features=grad_features, averages=grad_averages if ctx.with_averages else None)


# ---- registration ---------------------------------------------------------------------------------------------

_run_backward = implement("mix_pool_backward", _gradients)
_differentiable = register_autograd("mix_pool", implement("mix_pool", _forward), _setup_context, _backward)
