"""Mixes of feature maps, pooled over positions; the mixed maps are never formed.

    pooled[p, c] = max over hw of (lambda F_i[c, hw] + (1 - lambda) F_j[c, hw])
                   + lambda avg_i[c] + (1 - lambda) avg_j[c]                       (averages given)

The average pool commutes with mixing, so only the maximum sees positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.mixes import Mixes
from .launch import launch
from .library import LIBRARY, addresses, implement, register_autograd
from .mix_list import ARGUMENTS, native_mixes

LIBRARY.define(
    f"mix_pool(Tensor features, Tensor order, {ARGUMENTS}, Tensor? averages, bool with_argmax) -> (Tensor, Tensor)"
)
LIBRARY.define(
    f"mix_pool_backward(Tensor grad_pooled, Tensor argmax, Tensor order, {ARGUMENTS}, "
    "Tensor(a!) grad_features, Tensor(b!)? grad_averages) -> ()"
)

MOST_POSITIONS = 2**15 - 1  # of an int16 argmax


def mix_pool(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None = None) -> Tensor:
    """The pooled mixes of feature maps.

    Args:
        features: [n, c, h, w] float16, bfloat16, float32 or float64, contiguous or channels_last; h w < 2^15.
        order: [n] int64, example e of the mixes is features[order[e]].
        mixes: lambda in float64 for float64 features, in float32 otherwise. No gradient flows to it.
        averages: [n, c] in the type of lambda: the features averaged over positions, where those are to be added.

    Returns:
        [p, c] in the type of the features. Of equal maxima the first takes the gradient.

    Raises:
        TypeError, ValueError: an argument is not as above.
        RuntimeError: a backend asked for by name cannot run on these tensors.
    """
    _check(features, order, mixes, averages)
    if backend.choose(features.device) == "reference":
        return reference.mix_pool(features, order, mixes, averages)
    pooled, _argmax = _differentiable(features, order, *mixes.tensors, averages, features.requires_grad)
    return pooled


def compute_dtype(features: Tensor) -> torch.dtype:
    """The type of lambda, averages and gradients that are added up."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _check(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None) -> None:
    if features.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"features: got {features.dtype}, expected float16, bfloat16, float32 or float64")
    if features.dim() != 4:
        raise ValueError(f"features: got {list(features.shape)}, expected [n, c, h, w]")
    n, c, h, w = features.shape
    if not 1 <= h * w <= MOST_POSITIONS:
        raise ValueError(f"features: got {h} x {w} positions, expected 1 to {MOST_POSITIONS}")
    wanted = compute_dtype(features)
    expected: dict[str, tuple[Tensor | None, tuple[int, ...], torch.dtype]] = {
        "order": (order, (n,), torch.int64),
        "mixes.first": (mixes.first, (len(mixes),), torch.int64),
        "mixes.second": (mixes.second, (len(mixes),), torch.int64),
        "mixes.lam": (mixes.lam, (len(mixes),), wanted),
        "mixes.begin": (mixes.begin, (n + 1,), torch.int64),
        "averages": (averages, (n, c), wanted),
    }
    for name, (tensor, shape, dtype) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name}: got {tensor.dtype} {list(tensor.shape)}, expected {dtype} {list(shape)}")
        if tensor.device != features.device:
            raise ValueError(f"{name}: is on {tensor.device}, expected {features.device} as features")


def strides(features: Tensor) -> tuple[int, int, int] | None:
    """From image to image, channel to channel and position to position; None if positions are not evenly spaced."""
    image, channel, row, column = features.stride()
    height, width = features.shape[2:]
    if width == 1 or features.numel() == 0:
        return image, channel, row
    return (image, channel, column) if height == 1 or row == width * column else None


def _native_args(features: Tensor, order: Tensor, mixes: tuple[Tensor, ...]) -> Any:
    """The native argument struct, for feature maps laid out as these."""
    layout = strides(features)
    assert layout is not None
    channels, height, width = features.shape[1:]
    return native.lib().MixPool(native_mixes(*mixes), channels, height * width, order.data_ptr(), *layout)


def fill(
    features: Tensor,
    order: Tensor,
    mixes: tuple[Tensor, ...],
    averages: Tensor | None,
    pooled: Tensor,
    argmax: Tensor | None,
) -> None:
    """Writes the pooled mixes [p, c], and where their maxima are unless that is None. No gradient is recorded."""
    features = features if strides(features) else features.contiguous()
    averages = None if averages is None else averages.contiguous()
    if backend.choose(features.device) == "triton":
        from .triton import mix_pool as kernels

        kernels.mix_pool(features, order, *mixes, averages, pooled, argmax)
        return
    if features.device.type == "cpu" and features.dtype in (torch.float16, torch.bfloat16):
        exact = torch.empty_like(pooled, dtype=torch.float32)
        fill(features.float(), order, mixes, averages, exact, argmax)
        pooled.copy_(exact)
        return
    order = order.contiguous()
    launch(
        "mix_pool",
        compute_dtype(features),
        features,
        _native_args(features, order, mixes),
        native.element(features.dtype),
        *addresses(features, averages, pooled, argmax),
    )


def _forward(features: Tensor, order: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *mixes, averages, with_argmax = rest
    pooled, argmax = _outputs(features, len(mixes[0]), with_argmax)
    fill(features, order, tuple(mixes), averages, pooled, argmax if with_argmax else None)
    return pooled, argmax


def _outputs(features: Tensor, mixes: int, with_argmax: bool) -> tuple[Tensor, Tensor]:
    pooled = features.new_empty((mixes, features.shape[1]))
    return pooled, features.new_empty(pooled.shape if with_argmax else 0, dtype=torch.int16)


def _backward_into(
    grad_pooled: Tensor,
    argmax: Tensor,
    order: Tensor,
    first: Tensor,
    second: Tensor,
    lam: Tensor,
    begin: Tensor,
    uses: Tensor,
    grad_features: Tensor,
    grad_averages: Tensor | None,
) -> None:
    """Adds to grad_features and grad_averages, which are in the type of lambda."""
    mixes = first, second, lam, begin, uses
    if backend.choose(grad_pooled.device) == "triton":
        from .triton import mix_pool as kernels

        kernels.mix_pool_backward(grad_pooled, argmax, order, *mixes, grad_features, grad_averages)
        return
    if grad_pooled.device.type == "cpu":
        grad_pooled = grad_pooled.to(lam.dtype)
    grad_pooled, argmax, order = grad_pooled.contiguous(), argmax.contiguous(), order.contiguous()
    launch(
        "mix_pool_backward",
        compute_dtype(grad_features),
        grad_features,
        _native_args(grad_features, order, mixes),
        native.element(grad_pooled.dtype),
        *addresses(grad_pooled, argmax, grad_features, grad_averages),
    )


run_mix_pool = implement("mix_pool", _forward)
run_mix_pool_backward = implement("mix_pool_backward", _backward_into)


@torch.library.register_fake("metrix_ext::mix_pool", lib=LIBRARY)
def _forward_fake(features: Tensor, order: Tensor, first: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _outputs(features, first.shape[0], rest[-1])


@torch.library.register_fake("metrix_ext::mix_pool_backward", lib=LIBRARY)
def _backward_fake(*args: Any) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, order, *mixes, averages, _with_argmax = inputs
    ctx.save_for_backward(output[1], features, order, *mixes)
    ctx.averages_shape = None if averages is None else averages.shape


def _backward(ctx: Any, grad_pooled: Tensor, _grad_argmax: Tensor) -> tuple[Tensor | None, ...]:
    argmax, features, order, *mixes = ctx.saved_tensors
    lam = mixes[2]
    grad_features = torch.zeros_like(features if strides(features) else features.contiguous(), dtype=lam.dtype)
    grad_averages = None if ctx.averages_shape is None else lam.new_zeros(ctx.averages_shape)
    run_mix_pool_backward(grad_pooled, argmax, order, *mixes, grad_features, grad_averages)
    return (grad_features.to(features.dtype), *[None] * 6, grad_averages, None)


_differentiable = register_autograd("mix_pool", run_mix_pool, _setup_context, _backward)
