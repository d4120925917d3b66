"""The two sums of Eq. (7) and (9) for every anchor, as a reduction over similarities: no mixed example is formed.

Mixing commutes with the inner product. With nu_ij^2 = lambda^2 q_i + (1-lambda)^2 q_j + 2 lambda (1-lambda) k_ij,

    s(a, mix_ij) = (lambda s(a, i) + (1-lambda) s(a, j)) / nu_ij          (nu = 1 if not renormalised)

and with m = ds * s of a term the gradients are

    ds(a, i) += ds lambda/nu       ds(a, j) += ds (1-lambda)/nu
    dk_ij    -= m lambda(1-lambda)/nu^2      dq_i -= m lambda^2/(2 nu^2)      dq_j -= m (1-lambda)^2/(2 nu^2)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.formula import Rho, flat
from ..terms.pair_sets import PAIR_SETS
from ..terms.relations import Relations
from . import cuda
from .library import LIBRARY, addresses, implement, kernel, register_autograd

_ARGUMENTS = (
    "Tensor similarity, Tensor positives, Tensor self_index, Tensor? mask, bool anchors_in_order, str pairs, "
    "bool exponential, float[] rho, "
    "Tensor? lam, Tensor? gram, Tensor? sqnorm, Tensor? self_similarity, Tensor? self_sqnorm, SymInt first_row"
)
# The sums and what rounding took from them; the same of the clean sums, or nothing.
LIBRARY.define(f"pair_sums({_ARGUMENTS}, bool with_clean) -> (Tensor, Tensor, Tensor, Tensor)")
LIBRARY.define(
    "pair_sums_backward(Tensor grad_sums, Tensor sums, Tensor rest, "
    f"Tensor grad_clean, Tensor clean, Tensor clean_rest, {_ARGUMENTS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def pair_sums(
    similarity: Tensor,
    relations: Relations,
    rho: tuple[Rho, Rho],
    pairs: str = "clean",
    lam: Tensor | None = None,
    gram: Tensor | None = None,
    sqnorm: Tensor | None = None,
    self_similarity: Tensor | None = None,
    self_sqnorm: Tensor | None = None,
    first_row: int = 0,
    with_clean: bool = False,
) -> tuple[Tensor, ...]:
    """Both sums of every anchor: over P(a) and N(a) if ``pairs`` is "clean", over V(a) of a set of pairs otherwise.

    Examples (columns) are sorted by class. Sets within the examples ("pos-neg", "pos-pos", "neg-neg") read ``lam``
    and ``gram`` [n, n] by (first, second) example; the sets with the anchor ("anc-neg", "anc-pos") read them [m, n]
    by (anchor, example). Unordered sets take the pairs with first < second.

    Without a mask "pos-neg" and "pos-pos" take firsts from the anchors' classes alone, so that ``lam`` and ``gram`` may
    be a window [r, n]: the rows [first_row, first_row + r), which contain all ranges of positives that are not empty.

    Args:
        similarity: [m, n] s(a, x), float16, bfloat16, float32 or float64; half types are computed in float32.
        relations: who is positive and negative for whom.
        rho: of the positive and the negative side; both exponential or neither.
        pairs: "clean" or the name of a set of pairs.
        lam: weight of the first of a pair, in [0, 1]: one element or a matrix as above. No gradient flows to it.
        gram: inner products of what is mixed, a matrix as above; given, mixed examples are renormalised.
        sqnorm: [n] squared norms of what is mixed; with gram, whose diagonal is the default if it is whole.
        self_similarity: [m] s(a, a), the anchor with itself as a source; sets with the anchor. The default is the
            diagonal of similarity, for anchors that are the examples.
        self_sqnorm: [m] squared norm of the anchor as a source; sets with the anchor, with gram, likewise.
        first_row: the example of the first row of a window; 0 otherwise.
        with_clean: with a set of pairs, give the clean sums, too: one gradient of the similarities serves both.

    Returns:
        sums [m, 2], natural logarithms if rho is exponential (minus infinity, with no gradient, for an empty set);
        nonzero [m, 2], the number of terms that are not 0 (linear rho; undefined otherwise). float32 or float64. And
        with_clean these two of the clean sums.

    Raises:
        TypeError, ValueError: an argument is not as above.
        RuntimeError: a backend asked for by name cannot run on these tensors.
    """
    dtype = _compute_dtype(similarity)
    floats = lam, gram, sqnorm, self_similarity, self_sqnorm
    inputs: list[Any] = [*(None if t is None else t.to(dtype) for t in floats), first_row]
    _check(similarity, relations, pairs, *inputs)
    if with_clean and pairs == "clean":
        raise ValueError("with_clean: got True, expected False with pairs='clean'")
    if inputs[0] is not None:
        inputs[0] = inputs[0].detach()
    similarity = similarity.to(dtype)
    if backend.choose(similarity.device) == "reference":
        mixed = reference.pair_sums(similarity, relations, rho, pairs, *inputs)
        return (*mixed, *reference.pair_sums(similarity, relations, rho)) if with_clean else mixed
    sums, rest, clean, clean_rest = _differentiable(
        similarity,
        relations.positives,
        relations.self_index,
        relations.mask,
        relations.anchors_in_order,
        pairs,
        *flat(rho),
        *inputs,
        with_clean,
    )
    return (sums, rest.detach(), clean, clean_rest.detach()) if with_clean else (sums, rest.detach())


def _compute_dtype(similarity: Tensor) -> torch.dtype:
    if similarity.dtype in (torch.float32, torch.float64):
        return similarity.dtype
    if similarity.dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    raise TypeError(f"similarity: got {similarity.dtype}, expected float16, bfloat16, float32 or float64")


def _check(
    similarity: Tensor,
    relations: Relations,
    pairs: str,
    lam: Tensor | None,
    gram: Tensor | None,
    sqnorm: Tensor | None,
    self_similarity: Tensor | None,
    self_sqnorm: Tensor | None,
    first_row: int,
) -> None:
    if similarity.dim() != 2:
        raise ValueError(f"similarity: got {list(similarity.shape)}, expected [anchors, examples]")
    if pairs != "clean" and pairs not in PAIR_SETS:
        raise ValueError(f"pairs: got {pairs!r}, expected 'clean' or one of {', '.join(PAIR_SETS)}")
    m, n = similarity.shape
    mixed, with_anchor = pairs != "clean", pairs.startswith("anc-")
    matrix = (m, n) if with_anchor else (_rows(similarity, pairs, lam, gram), n)
    is_window = not with_anchor and (first_row, matrix[0]) != (0, n)
    with_own_row = with_anchor and (m != n or self_similarity is not None)
    if with_anchor and first_row != 0:
        raise ValueError(f"first_row: got {first_row}, expected 0 with pairs={pairs!r}")
    expected: dict[str, tuple[Tensor | None, tuple[int, ...], bool]] = {
        "relations.positives": (relations.positives, (m, 2), True),
        "relations.self_index": (relations.self_index, (m,), True),
        "relations.mask": (relations.mask, (m, n), relations.mask is not None),
        "gram": (gram, matrix, mixed and gram is not None),
        "sqnorm": (sqnorm, (n,), gram is not None and (with_own_row or is_window or sqnorm is not None)),
        "self_similarity": (self_similarity, (m,), with_own_row),
        "self_sqnorm": (self_sqnorm, (m,), with_own_row and gram is not None),
    }
    if mixed and (lam is None or lam.numel() != 1):
        expected["lam"] = (lam, matrix, True)
    elif not mixed:
        expected["lam"] = (lam, (), False)
    for name, (tensor, shape, wanted) in expected.items():
        if (tensor is not None) != wanted:
            raise ValueError(f"{name}: {'missing' if wanted else 'not used'} with pairs={pairs!r}")
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: got {list(tensor.shape)}, expected {list(shape)}")
        if tensor is not None and tensor.device != similarity.device:
            raise ValueError(f"{name}: is on {tensor.device}, expected {similarity.device} as similarity")
    if is_window:
        _check_window(relations, pairs, first_row, *matrix)


def _check_window(relations: Relations, pairs: str, first_row: int, rows: int, n: int) -> None:
    if pairs not in ("pos-neg", "pos-pos") or relations.mask is not None:
        raise ValueError(
            f"lam, gram, first_row: got {rows} rows from {first_row} on, expected {n} rows with pairs={pairs!r}"
            f"{'' if relations.mask is None else ' and a mask'}"
        )
    if not 0 <= first_row <= n - rows:
        raise ValueError(f"first_row: got {first_row}, expected 0 to {n - rows} with {rows} of {n} rows")
    if relations.positives.device.type == "cpu" and not torch.compiler.is_compiling():
        begin, end = relations.positives.unbind(1)
        outside = (begin < end) & ((begin < first_row) | (end > first_row + rows))
        if outside.any():
            raise ValueError(
                f"relations.positives: got {relations.positives[outside][0].tolist()}, "
                f"expected columns from {first_row} to {first_row + rows}, which are the rows of lam and gram"
            )


def _rows(similarity: Tensor, pairs: str, lam: Tensor | None, gram: Tensor | None) -> int:
    """Of the matrices by pairs; where there are none, those that there would be."""
    matrix = lam if gram is None and lam is not None and lam.numel() != 1 else gram
    if matrix is not None and matrix.dim() == 2:
        return matrix.shape[0]
    return similarity.shape[0 if pairs.startswith("anc-") else 1]


def _problem(
    similarity: Tensor,
    positives: Tensor,
    self_index: Tensor,
    mask: Tensor | None,
    anchors_in_order: bool,
    pairs: str,
    exponential: bool,
    rho: list[float],
    lam: Tensor | None,
    gram: Tensor | None,
    sqnorm: Tensor | None,
    self_similarity: Tensor | None,
    self_sqnorm: Tensor | None,
    first_row: int,
) -> tuple[Any, list[Tensor | None]]:
    """The native argument struct, and the tensors that it points into."""
    given = similarity, lam, gram, sqnorm, self_similarity, self_sqnorm, positives, self_index, mask
    tensors = [None if t is None else t.contiguous() for t in given]
    problem = native.lib().Problem(
        similarity.shape[0],
        similarity.shape[1],
        first_row,
        _rows(similarity, pairs, lam, gram),
        pairs,
        exponential,
        rho,
        gram is not None,
        lam is not None and lam.numel() == 1,
        anchors_in_order and mask is None,
        *addresses(*tensors),
    )
    return problem, tensors


def _launch_cpu(name: str, similarity: Tensor, problem: Any, *outputs: int) -> None:
    kernel(name, similarity.dtype)(problem, *outputs, torch.get_num_threads())


def _native(device: torch.device) -> Callable[..., None]:
    return cuda.launch_sums if device.type == "cuda" else _launch_cpu


def _forward(similarity: Tensor, *args: Any) -> tuple[Tensor, ...]:
    similarity = similarity.contiguous()
    args, with_clean = args[:-1], args[-1]
    if backend.choose(similarity.device) == "triton":
        from .triton import pair_sums as kernels

        clean = kernels.pair_sums(similarity, *_clean(args)) if with_clean else _empty_sums(similarity, False)[2:]
        return *kernels.pair_sums(similarity, *args), *clean
    problem, _alive = _problem(similarity, *args)
    outputs = _empty_sums(similarity, with_clean)
    of_clean = outputs[2:] if with_clean else (None, None)
    _native(similarity.device)("pair_sums", similarity, problem, *addresses(*outputs[:2], *of_clean))
    return outputs


def _gradients(
    grad_sums: Tensor,
    sums: Tensor,
    rest: Tensor,
    grad_clean: Tensor,
    clean: Tensor,
    clean_rest: Tensor,
    similarity: Tensor,
    *args: Any,
) -> tuple[Tensor, ...]:
    similarity = similarity.contiguous()
    if backend.choose(similarity.device) == "triton":
        from .triton import pair_sums as kernels

        gradients = kernels.pair_sums_backward(grad_sums, sums, rest, similarity, *args)
        if clean.numel():
            of_clean, *_ = kernels.pair_sums_backward(grad_clean, clean, clean_rest, similarity, *_clean(args))
            gradients[0].add_(of_clean)
        return gradients
    problem, _alive = _problem(similarity, *args)
    grad_sums, grad_clean = grad_sums.contiguous(), grad_clean.contiguous()
    gradients = _empty_gradients(similarity, *args)
    given_clean = (clean, clean_rest, grad_clean) if clean.numel() else (None, None, None)
    both = addresses(sums, rest, grad_sums, *given_clean, *gradients)
    _native(similarity.device)("pair_sums_backward", similarity, problem, *both)
    return gradients


def _clean(args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of the clean sums of the same anchors."""
    *relations, _pairs, exponential, rho = args[:7]
    return (*relations, "clean", exponential, rho, *[None] * 5, 0)


_run = implement("pair_sums", _forward)
_run_backward = implement("pair_sums_backward", _gradients)


def _empty_sums(similarity: Tensor, with_clean: bool) -> tuple[Tensor, ...]:
    shape = (similarity.shape[0], 2)
    sizes = shape, shape, *[shape if with_clean else (0,)] * 2
    return tuple(similarity.new_empty(size) for size in sizes)


def _empty_gradients(similarity: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Of similarity, gram, sqnorm, self_similarity and self_sqnorm; without elements where there is no input."""
    optional = args[-5:-1]
    shapes = [(0,) if t is None else tuple(t.shape) for t in optional]
    return (
        similarity.new_empty(similarity.shape),
        *(similarity.new_empty(shape) for shape in shapes),
    )


@torch.library.register_fake("metrix_ext::pair_sums", lib=LIBRARY)
def _forward_fake(similarity: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return _empty_sums(similarity, args[-1])


@torch.library.register_fake("metrix_ext::pair_sums_backward", lib=LIBRARY)
def _backward_fake(*args: Any) -> tuple[Tensor, ...]:
    return _empty_gradients(*args[6:])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    similarity, positives, self_index, mask, in_order, pairs, exponential, rho, *optional, first_row, _ = inputs
    ctx.options, ctx.first_row = (in_order, pairs, exponential, rho), first_row
    ctx.save_for_backward(*output, similarity, positives, self_index, mask, *optional)


def _backward(
    ctx: Any, grad_sums: Tensor | None, _grad_rest: Any, grad_clean: Tensor | None, _grad_clean_rest: Any
) -> tuple[Tensor | None, ...]:
    sums, rest, clean, clean_rest, *tensors = ctx.saved_tensors
    similarity, positives, self_index, mask, *optional = tensors
    if grad_sums is None:
        grad_sums = torch.zeros_like(sums)
    if grad_clean is None:
        grad_clean = torch.zeros_like(clean) if clean.numel() else clean
    gradients = _run_backward(
        *(grad_sums, sums, rest, grad_clean, clean, clean_rest),
        *(similarity, positives, self_index, mask),
        *ctx.options,
        *optional,
        ctx.first_row,
    )
    wanted = [g if t is not None else None for g, t in zip(gradients[1:], optional[1:], strict=True)]
    return (gradients[0], *[None] * 8, *wanted, None, None)


_differentiable = register_autograd("pair_sums", _run, _setup_context, _backward)
