"""The two sums of Eq. (9) for every anchor, over a list of mixed embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.formula import Rho, flat
from ..terms.mixes import Mixes
from ..terms.pair_sets import PAIR_SETS
from ..terms.relations import Relations
from . import cuda
from .library import LIBRARY, addresses, implement, kernel, register_autograd
from .mix_list import ARGUMENTS, native_mixes

_ARGUMENTS = (
    "Tensor mixed, Tensor anchors, Tensor positives, Tensor self_index, Tensor? mask, Tensor? anchor_order, "
    f"Tensor? anchors_of, {ARGUMENTS}, str pairs, bool both_orders, bool normalize, bool exponential, float[] rho"
)
LIBRARY.define(f"anchor_sums({_ARGUMENTS}) -> (Tensor, Tensor)")
LIBRARY.define(f"anchor_sums_backward(Tensor grad_sums, Tensor sums, {_ARGUMENTS}, Tensor(a!) grad_anchors) -> Tensor")

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
        rho: of the positive and the negative side; both exponential or neither.
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
    _check(mixed, anchors, relations, pairs, mixes)
    if backend.choose(mixed.device) == "reference":
        return reference.anchor_sums(mixed, anchors, relations, rho, pairs, mixes, both_orders, normalize)
    arguments = flat_arguments(relations, rho, pairs, mixes, both_orders, normalize)
    sums, nonzero = _differentiable(mixed, anchors, *arguments)
    return sums, nonzero.detach()


def flat_arguments(
    relations: Relations, rho: tuple[Rho, Rho], pairs: str, mixes: Mixes, both_orders: bool, normalize: bool
) -> tuple[Any, ...]:
    """What follows mixed and anchors in the arguments of the registered ops."""
    return (*list_arguments(relations, pairs, mixes), pairs, both_orders, normalize, *flat(rho))


def list_arguments(relations: Relations, pairs: str, mixes: Mixes) -> tuple[Tensor | None, ...]:
    """The tensors among them: relations, the anchors of a class where few are meant, mixes."""
    few_anchors = relations.mask is None and pairs != "neg-neg"
    of_class = relations.anchors_by_class(mixes.examples) if few_anchors else (None, None)
    return relations.positives, relations.self_index, relations.mask, *of_class, *mixes.tensors


def _check(mixed: Tensor, anchors: Tensor, relations: Relations, pairs: str, mixes: Mixes) -> None:
    if mixed.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"mixed: got {mixed.dtype}, expected float16, bfloat16, float32 or float64")
    wanted = torch.float64 if mixed.dtype == torch.float64 else torch.float32
    if pairs not in PAIR_SETS:
        raise ValueError(f"pairs: got {pairs!r}, expected one of {', '.join(PAIR_SETS)}")
    if anchors.dim() != 2:
        raise ValueError(f"anchors: got {list(anchors.shape)}, expected [m, d]")
    m, d = anchors.shape
    p, n = len(mixes), mixes.examples
    expected: dict[str, tuple[Tensor | None, tuple[int, ...], torch.dtype]] = {
        "mixed": (mixed, (p, d), mixed.dtype),
        "anchors": (anchors, (m, d), wanted),
        "relations.positives": (relations.positives, (m, 2), torch.int64),
        "relations.self_index": (relations.self_index, (m,), torch.int64),
        "relations.mask": (relations.mask, (m, n), torch.int8),
        "mixes.first": (mixes.first, (p,), torch.int64),
        "mixes.second": (mixes.second, (p,), torch.int64),
        "mixes.lam": (mixes.lam, (p,), wanted),
    }
    for name, (tensor, shape, dtype) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name}: got {tensor.dtype} {list(tensor.shape)}, expected {dtype} {list(shape)}")
        if tensor.device != mixed.device:
            raise ValueError(f"{name}: is on {tensor.device}, expected {mixed.device} as mixed")


def _problem(
    mixed: Tensor,
    anchors: Tensor,
    positives: Tensor,
    self_index: Tensor,
    mask: Tensor | None,
    anchor_order: Tensor | None,
    anchors_of: Tensor | None,
    first: Tensor,
    second: Tensor,
    lam: Tensor,
    begin: Tensor,
    uses: Tensor,
    pairs: str,
    both_orders: bool,
    normalize: bool,
    exponential: bool,
    rho: list[float],
) -> tuple[Any, list[Tensor | None]]:
    """The native argument struct, and the contiguous tensors that it points into."""
    inverse_norms = None
    if normalize:
        norms = torch.linalg.vector_norm(mixed, dim=1, dtype=lam.dtype)
        inverse_norms = norms.clamp_min_(SMALLEST_NORM).reciprocal_()
    tensors = [
        None if t is None else t.contiguous()
        for t in (mixed, inverse_norms, anchors, positives, self_index, mask, anchor_order, anchors_of)
    ]
    problem = native.lib().AnchorSums(
        native_mixes(first, second, lam, begin, uses),
        len(anchors),
        anchors.shape[1],
        pairs,
        exponential,
        rho,
        both_orders,
        native.element(mixed.dtype),
        *addresses(*tensors),
    )
    return problem, tensors


def _forward(mixed: Tensor, anchors: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    if backend.choose(mixed.device) == "triton":
        from .triton import anchor_sums as kernels

        return kernels.anchor_sums(mixed, anchors, *args)
    problem, _alive = _problem(_on_cpu_single(mixed), anchors, *args)
    sums, nonzero = (anchors.new_empty((len(anchors), 2)) for _ in range(2))
    _launch("anchor_sums", anchors, problem, sums, nonzero)
    return sums, nonzero


def _gradients(grad_sums: Tensor, sums: Tensor, mixed: Tensor, anchors: Tensor, *args_and_grad_anchors: Any) -> Tensor:
    """Adds to grad_anchors, returns the gradient of mixed."""
    *args, grad_anchors = args_and_grad_anchors
    if backend.choose(mixed.device) == "triton":
        from .triton import anchor_sums as kernels

        return kernels.anchor_sums_backward(grad_sums, sums, mixed, anchors, *args, grad_anchors)
    native_mixed = _on_cpu_single(mixed)
    problem, _alive = _problem(native_mixed, anchors, *args)
    grad_mixed = torch.empty_like(native_mixed, memory_format=torch.contiguous_format)
    _launch(
        "anchor_sums_backward", anchors, problem, sums.contiguous(), grad_sums.contiguous(), grad_mixed, grad_anchors
    )
    return grad_mixed.to(mixed.dtype)


def _on_cpu_single(mixed: Tensor) -> Tensor:
    """The CPU kernels have no half types."""
    return mixed.float() if mixed.device.type == "cpu" and mixed.dtype != torch.float64 else mixed


def _launch(name: str, anchors: Tensor, problem: Any, *tensors: Tensor) -> None:
    if anchors.is_cuda:
        size = cuda.kernel(f"{name}_workspace", anchors.dtype)(problem)
        workspace = torch.empty(size, dtype=torch.uint8, device=anchors.device)
        cuda.kernel(name, anchors.dtype)(problem, *addresses(*tensors, workspace), *cuda.place(anchors))
    else:
        kernel(name, anchors.dtype)(problem, *addresses(*tensors), torch.get_num_threads())


run_anchor_sums = implement("anchor_sums", _forward)
run_anchor_sums_backward = implement("anchor_sums_backward", _gradients)


@torch.library.register_fake("metrix_ext::anchor_sums", lib=LIBRARY)
def _forward_fake(mixed: Tensor, anchors: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return anchors.new_empty((anchors.shape[0], 2)), anchors.new_empty((anchors.shape[0], 2))


@torch.library.register_fake("metrix_ext::anchor_sums_backward", lib=LIBRARY)
def _backward_fake(grad_sums: Tensor, sums: Tensor, mixed: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(mixed, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, pairs, both_orders, normalize, exponential, rho = inputs
    ctx.options = pairs, both_orders, normalize, exponential, rho
    ctx.save_for_backward(output[0], *tensors)


def _backward(ctx: Any, grad_sums: Tensor, _grad_nonzero: Tensor) -> tuple[Tensor | None, ...]:
    sums, mixed, anchors, *tensors = ctx.saved_tensors
    grad_anchors = torch.zeros_like(anchors, memory_format=torch.contiguous_format)
    grad_mixed = run_anchor_sums_backward(grad_sums, sums, mixed, anchors, *tensors, *ctx.options, grad_anchors)
    return (grad_mixed, grad_anchors, *[None] * 15)


_differentiable = register_autograd("anchor_sums", run_anchor_sums, _setup_context, _backward)
