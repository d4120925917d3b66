"""The two sums of Eq. (9) for every anchor, over a list of mixed embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.formula import Rho, flat
from ..terms.mixes import Mixes
from ..terms.relations import Relations
from .arguments import AnchorSumsArguments
from .checks.mixes import check_anchor_sums
from .checks.tensors import check_contiguous
from .launch import where_to_work
from .library import LIBRARY, implement, register_autograd
from .signature import Signature

SIGNATURE = Signature(AnchorSumsArguments)

SMALLEST_NORM = 1e-12  # as of torch.nn.functional.normalize


def anchor_sums(
    mixed: Tensor,
    anchors: Tensor,
    relations: Relations,
    rho: tuple[Rho, Rho],
    pairs: str,
    mixes: Mixes,
    both_orders: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """Both sums of every anchor over V(a), the mixes of the list that are in M(a).

    Args:
        mixed: [p, d] the embedded mixes, float16, bfloat16, float32 or float64.
        anchors: [m, d] float64 for float64 mixes, float32 otherwise.
        relations: who is positive and negative for whom, of m anchors and n examples.
        rho: of the positive and the negative side; both exponential, of one margin_range, or neither.
        pairs: the name of a set of pairs.
        mixes: the list, lambda in the type of the anchors. No gradient flows to lambda.
        both_orders: one mix serves anchors that have its second as the first too, with 1 - lambda.
        normalize: take the similarity of mixed / max(|mixed|, 1e-12).

    Returns:
        sums [m, 2], natural logarithms if rho is exponential (minus infinity, with no gradient, for an empty set);
        nonzero [m, 2], the number of terms that are not 0 (linear rho; undefined otherwise). As the anchors' type.

    Raises:
        TypeError, ValueError: an argument is not as above.
        RuntimeError: a backend asked for by name cannot run on these tensors.
    """
    check_anchor_sums(mixed, anchors, relations, pairs, mixes)
    if backend.choose(mixed.device) == "reference":
        return reference.anchor_sums(mixed, anchors, relations, rho, pairs, mixes, both_orders, normalize)
    numbers = flat(rho, pairs)
    arguments = AnchorSumsArguments.of(mixed, anchors, relations, mixes, pairs, both_orders, normalize, *numbers)
    sums, nonzero = _differentiable(*arguments)
    return sums, nonzero.detach()


# ---- schema ---------------------------------------------------------------------------------------------------

LIBRARY.define(f"anchor_sums({SIGNATURE.schema}) -> (Tensor, Tensor)")
LIBRARY.define(f"anchor_sums_backward(Tensor grad_sums, Tensor sums, {SIGNATURE.schema}) -> (Tensor, Tensor)")


# ---- implementation -------------------------------------------------------------------------------------------


def forward(*given: Any) -> tuple[Tensor, Tensor]:
    """What anchor_sums gives. No gradient is recorded."""
    a = AnchorSumsArguments(*given)
    if backend.choose(a.mixed.device) == "triton":
        from .triton import anchor_sums as kernels

        return kernels.anchor_sums(a)
    a = SIGNATURE.contiguous(a._replace(mixed=_on_cpu_single(a.mixed)))
    inverse_norms = _inverse_norms(a)
    sums, nonzero = (a.anchors.new_empty((len(a.anchors), 2)) for _ in range(2))
    args = _native(a, inverse_norms)
    place = where_to_work("anchor_sums", a.anchors.dtype, a.anchors, args)
    native.typed("anchor_sums", a.anchors.dtype)(place, args, sums=sums, nonzero=nonzero)
    return sums, nonzero


def _gradients(grad_sums: Tensor, sums: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    a = AnchorSumsArguments(*given)
    grad_anchors = torch.zeros_like(a.anchors, memory_format=torch.contiguous_format)
    return add_gradients(grad_sums, sums, a, grad_anchors), grad_anchors


def add_gradients(grad_sums: Tensor, sums: Tensor, a: AnchorSumsArguments, grad_anchors: Tensor) -> Tensor:
    """Adds to grad_anchors, returns the gradient of mixed. The sums may be those of a longer list."""
    check_contiguous("grad_anchors", grad_anchors)
    if backend.choose(a.mixed.device) == "triton":
        from .triton import anchor_sums as kernels

        return kernels.anchor_sums_backward(grad_sums, sums, a, grad_anchors)
    dtype = a.mixed.dtype
    a = SIGNATURE.contiguous(a._replace(mixed=_on_cpu_single(a.mixed)))
    inverse_norms = _inverse_norms(a)
    grad_mixed = torch.empty_like(a.mixed)
    args = _native(a, inverse_norms)
    native.typed("anchor_sums_backward", a.anchors.dtype)(
        where_to_work("anchor_sums_backward", a.anchors.dtype, a.anchors, args),
        args,
        sums=sums.contiguous(),
        grad_sums=grad_sums.contiguous(),
        grad_mixed=grad_mixed,
        grad_anchors=grad_anchors,
    )
    return grad_mixed.to(dtype)


def _on_cpu_single(mixed: Tensor) -> Tensor:
    """The CPU kernels have no half types."""
    return mixed.float() if mixed.device.type == "cpu" and mixed.dtype != torch.float64 else mixed


def _inverse_norms(a: AnchorSumsArguments) -> Tensor | None:
    """[p] 1 / max(|z|, 1e-12) of the mixes, NaN of an infinite norm; or None where they are taken as they are.

    In double precision, where the squares of single numbers do not overflow. The CUDA kernels take their own.
    """
    if not a.normalize or a.mixed.is_cuda:
        return None
    norms = torch.linalg.vector_norm(a.mixed, dim=1, dtype=torch.float64)
    return norms.clamp_min(SMALLEST_NORM).reciprocal_().add_(norms, alpha=0).to(a.lam.dtype)


def _native(a: AnchorSumsArguments, inverse_norms: Tensor | None) -> Any:
    """The native struct, which points into the tensors; those are contiguous, and the caller keeps them alive."""
    make = native.typed("AnchorSumsArgs", a.anchors.dtype)
    return make(a, element=native.element(a.mixed.dtype), inverse_norms=inverse_norms)


# ---- fake -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("metrix_ext::anchor_sums", lib=LIBRARY)
def _forward_fake(mixed: Tensor, anchors: Tensor, *_others: Any) -> tuple[Tensor, Tensor]:
    return anchors.new_empty((anchors.shape[0], 2)), anchors.new_empty((anchors.shape[0], 2))


@torch.library.register_fake("metrix_ext::anchor_sums_backward", lib=LIBRARY)
def _backward_fake(
    grad_sums: Tensor, sums: Tensor, mixed: Tensor, anchors: Tensor, *_others: Any
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (mixed, anchors))


# ---- backward -------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    sums, _nonzero = output
    SIGNATURE.save(ctx, inputs, sums)


def _backward(ctx: Any, grad_sums: Tensor, _grad_nonzero: Tensor) -> tuple[Tensor | None, ...]:
    (sums,), a = SIGNATURE.saved(ctx)
    grad_mixed, grad_anchors = _run_backward(grad_sums, sums, *a)
    return SIGNATURE.gradients(mixed=grad_mixed, anchors=grad_anchors)


# ---- registration ---------------------------------------------------------------------------------------------

_run = implement("anchor_sums", forward)
_run_backward = implement("anchor_sums_backward", _gradients)
_differentiable = register_autograd("anchor_sums", _run, _setup_context, _backward)
