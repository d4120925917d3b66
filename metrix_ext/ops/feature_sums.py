"""Feature mixup through a PoolingHead with a maximum: Eq. (9) over mixes of feature maps, chunk by chunk.

A chunk of mixes is pooled (mix_pool), projected (a matrix product) and compared with the anchors of its examples
(anchor_sums). What fits into the workspace is kept for backward, projections first; the rest is formed again. One op,
so that torch.compile sees one node however many chunks there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .anchor_sums import add_gradients as add_gradients_of_sums
from .anchor_sums import forward as sums_of_anchors
from .checks.feature_sums import check_feature_sums
from .feature_chunks import FeatureSumsArguments, Kept
from .library import LIBRARY, implement, register_autograd
from .maps import evenly_spaced
from .mix_pool import add_gradients as add_gradients_of_pool
from .signature import Signature

SIGNATURE = Signature(FeatureSumsArguments)


def feature_sums(arguments: FeatureSumsArguments) -> tuple[Tensor, Tensor]:
    """Both sums of every anchor over the mixes of its pairs, differentiable by features, weight, bias and anchors.

    Returns:
        sums [m, 2], natural logarithms if rho is exponential; nonzero [m, 2], the number of terms that are not 0
        (linear rho; undefined otherwise). In the type of the anchors.

    Raises:
        TypeError, ValueError: an argument is not as FeatureSumsArguments says.
    """
    check_feature_sums(*arguments)
    sums, nonzero, *_kept = _differentiable(*arguments)
    return sums, nonzero.detach()


# ---- schema ---------------------------------------------------------------------------------------------------

LIBRARY.define(f"feature_sums({SIGNATURE.schema}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
LIBRARY.define(
    "feature_sums_backward(Tensor grad_sums, Tensor sums, Tensor projected, Tensor pooled, Tensor argmax, "
    f"{SIGNATURE.schema}) -> (Tensor, Tensor, Tensor, Tensor)"
)


# ---- implementation -------------------------------------------------------------------------------------------


def _forward(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    problem = FeatureSumsArguments(*given)
    features, anchors = problem.features, problem.anchors
    kept = problem.kept()
    averages, by_class = problem.averages, problem.anchors_by_class()
    sums = anchors.new_full((len(anchors), 2), -torch.inf if problem.exponential else 0.0)
    nonzero = torch.zeros_like(sums)
    with torch.autocast(features.device.type, enabled=False):
        for at, mixes in problem.chunks():
            to_projected, to_pooled, to_argmax = kept.of_chunk(at)
            projected = problem.project(problem.pool(mixes, averages, to_pooled, to_argmax), to_projected)
            sums_of_chunk, nonzero_of_chunk = sums_of_anchors(*problem.anchor_sums(projected, mixes, by_class))
            sums = torch.logaddexp(sums, sums_of_chunk) if problem.exponential else sums + sums_of_chunk
            nonzero += nonzero_of_chunk
    return sums, nonzero, *kept


def _gradients(
    grad_sums: Tensor, sums: Tensor, projected: Tensor, pooled: Tensor, argmax: Tensor, *given: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of features, weight, bias and anchors; that of the features is empty if it is not wanted."""
    kept, problem = Kept(projected, pooled, argmax), FeatureSumsArguments(*given)
    features, weight, anchors = problem.features, problem.weight, problem.anchors
    exact, averages, by_class = anchors.dtype, problem.averages, problem.anchors_by_class()
    features_wanted, weight_wanted, _ = problem.wanted
    grad_features = torch.zeros_like(evenly_spaced(features), dtype=exact) if features_wanted else features.new_empty(0)
    grad_averages = torch.zeros_like(averages) if averages is not None and features_wanted else None
    grad_weight = torch.zeros_like(weight, dtype=exact)
    grad_bias = weight.new_zeros(len(weight), dtype=exact)
    grad_anchors = torch.zeros_like(anchors, memory_format=torch.contiguous_format)
    with torch.autocast(features.device.type, enabled=False):
        for at, mixes in problem.chunks():
            kept_of_chunk = kept.of_chunk(at)
            z, pooled_of_chunk, argmax_of_chunk = problem.again(mixes, averages, *kept_of_chunk)
            listed = problem.anchor_sums(z, mixes, by_class)
            grad_projected = add_gradients_of_sums(grad_sums, sums, listed, grad_anchors)
            grad_bias += grad_projected.sum(0, dtype=exact)
            if weight_wanted:
                assert pooled_of_chunk is not None
                grad_weight += grad_projected.T @ pooled_of_chunk
            if features_wanted:
                # What was formed again has served its turn.
                into = pooled_of_chunk if kept_of_chunk[1] is None else None
                grad_pooled = torch.mm(grad_projected, weight, out=into)
                assert argmax_of_chunk is not None
                add_gradients_of_pool(grad_pooled, argmax_of_chunk, problem.order, mixes, grad_features, grad_averages)
        if grad_averages is not None:
            height, width = features.shape[2:]
            grad_features.add_(grad_averages[:, :, None, None], alpha=1 / (height * width))
    return grad_features.to(features.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), grad_anchors


# ---- fake -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("metrix_ext::feature_sums", lib=LIBRARY)
def _forward_fake(*given: Any) -> tuple[Tensor, ...]:
    problem = FeatureSumsArguments(*given)
    m = problem.anchors.shape[0]
    sums, nonzero = (problem.anchors.new_empty((m, 2)) for _ in range(2))
    return sums, nonzero, *problem.kept()


@torch.library.register_fake("metrix_ext::feature_sums_backward", lib=LIBRARY)
def _backward_fake(
    grad_sums: Tensor, sums: Tensor, projected: Tensor, pooled: Tensor, argmax: Tensor, *given: Any
) -> tuple[Tensor, ...]:
    problem = FeatureSumsArguments(*given)
    features, weight = problem.features, problem.weight
    grad_features = torch.zeros_like(evenly_spaced(features)) if problem.wanted[0] else features.new_empty(0)
    return (
        grad_features,
        torch.empty_like(weight, memory_format=torch.contiguous_format),
        weight.new_empty(weight.shape[0]),
        torch.empty_like(problem.anchors, memory_format=torch.contiguous_format),
    )


# ---- backward -------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    sums, _nonzero, *kept = output
    SIGNATURE.save(ctx, inputs, sums, *kept)


def _backward(ctx: Any, grad_sums: Tensor, *_others: Any) -> tuple[Tensor | None, ...]:
    (sums, *kept), a = SIGNATURE.saved(ctx)
    names = "features", "weight", "bias", "anchors"
    gradients = _run_backward(grad_sums, sums, *kept, *a)
    is_wanted = ctx.needs_input_grad[: len(names)]
    return SIGNATURE.gradients(
        **{name: gradient for name, gradient, wanted in zip(names, gradients, is_wanted, strict=True) if wanted}
    )


# ---- registration ---------------------------------------------------------------------------------------------

_run = implement("feature_sums", _forward)
_run_backward = implement("feature_sums_backward", _gradients)
_differentiable = register_autograd("feature_sums", _run, _setup_context, _backward)
