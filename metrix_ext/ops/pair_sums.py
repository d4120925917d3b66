"""The two sums of Eq. (7) and (9) for every anchor, as a reduction over similarities: no mixed example is formed.

Mixing commutes with the inner product. With nu_ij^2 = lambda^2 q_i + (1-lambda)^2 q_j + 2 lambda (1-lambda) k_ij,

    s(a, mix_ij) = (lambda s(a, i) + (1-lambda) s(a, j)) / nu_ij          (nu = 1 if not renormalised)

and with m = ds * s of a term the gradients are

    ds(a, i) += ds lambda/nu       ds(a, j) += ds (1-lambda)/nu
    dk_ij    -= m lambda(1-lambda)/nu^2      dq_i -= m lambda^2/(2 nu^2)      dq_j -= m (1-lambda)^2/(2 nu^2)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.formula import Rho, flat
from ..terms.relations import Relations
from .arguments import PairSumsArguments
from .checks.pair_sums import check_floats, check_pair_sums
from .checks.tensors import check_floating
from .launch import where_to_work
from .library import LIBRARY, implement, register_autograd
from .signature import Signature

SIGNATURE = Signature(PairSumsArguments)


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
    clean_rho: tuple[Rho, Rho] | None = None,
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
        rho: of the positive and the negative side; both exponential, of one margin_range, or neither.
        pairs: "clean" or the name of a set of pairs.
        lam: weight of the first of a pair, in [0, 1]: one element or a matrix as above. No gradient flows to it.
        gram: inner products of what is mixed, a matrix as above; given, mixed examples are renormalised.
        sqnorm: [n] squared norms of what is mixed; with gram, whose diagonal is the default if it is whole.
        self_similarity: [m] s(a, a), the anchor with itself as a source; sets with the anchor. The default is the
            diagonal of similarity, for anchors that are the examples.
        self_sqnorm: [m] squared norm of the anchor as a source; sets with the anchor, with gram, likewise.
        first_row: the example of the first row of a window; 0 otherwise.
        clean_rho: with a set of pairs, give the clean sums, too, by this rho: one gradient of the similarities serves
            both.

    Returns:
        sums [m, 2], natural logarithms if rho is exponential (minus infinity, with no gradient, for an empty set);
        nonzero [m, 2], the number of terms that are not 0 (linear rho; undefined otherwise). float32 or float64. And
        with clean_rho these two of the clean sums.

    Raises:
        TypeError, ValueError: an argument is not as above.
        RuntimeError: a backend asked for by name cannot run on these tensors.
    """
    check_floating("similarity", similarity)
    dtype = torch.float64 if similarity.dtype == torch.float64 else torch.float32
    lam, gram, sqnorm, self_similarity, self_sqnorm = (
        None if t is None else t.to(dtype)
        for t in check_floats(
            lam=lam, gram=gram, sqnorm=sqnorm, self_similarity=self_similarity, self_sqnorm=self_sqnorm
        )
    )
    exponential, numbers = flat(rho, pairs)
    clean_exponential, clean_numbers = (False, []) if clean_rho is None else flat(clean_rho, "clean")
    arguments = PairSumsArguments(
        similarity=similarity.to(dtype),
        positives=relations.positives,
        self_index=relations.self_index,
        mask=relations.mask,
        anchors_in_order=relations.anchors_in_order,
        pairs=pairs,
        exponential=exponential,
        rho=numbers,
        lam=None if lam is None else lam.detach(),
        gram=gram,
        sqnorm=sqnorm,
        self_similarity=self_similarity,
        self_sqnorm=self_sqnorm,
        first_row=first_row,
        clean_exponential=clean_exponential,
        clean_rho=clean_numbers,
    )
    check_pair_sums(arguments)
    if clean_rho is not None and pairs == "clean":
        raise ValueError(f"clean_rho: got {clean_rho}, expected None with pairs='clean'")
    if backend.choose(similarity.device) == "reference":
        return _reference(arguments, relations, rho, clean_rho)
    sums, rest, clean, clean_rest = _differentiable(*arguments)
    return (sums, rest.detach()) if clean_rho is None else (sums, rest.detach(), clean, clean_rest.detach())


def _reference(
    a: PairSumsArguments, relations: Relations, rho: tuple[Rho, Rho], clean_rho: tuple[Rho, Rho] | None
) -> tuple[Tensor, ...]:
    mixing = a.lam, a.gram, a.sqnorm, a.self_similarity, a.self_sqnorm, a.first_row
    mixed = reference.pair_sums(a.similarity, relations, rho, a.pairs, *mixing)
    return mixed if clean_rho is None else (*mixed, *reference.pair_sums(a.similarity, relations, clean_rho))


# ---- schema ---------------------------------------------------------------------------------------------------

# The sums and what rounding took from them; the same of the clean sums, or nothing.
LIBRARY.define(f"pair_sums({SIGNATURE.schema}) -> (Tensor, Tensor, Tensor, Tensor)")
LIBRARY.define(
    "pair_sums_backward(Tensor grad_sums, Tensor sums, Tensor rest, "
    f"Tensor grad_clean, Tensor clean, Tensor clean_rest, {SIGNATURE.schema})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


class PairSumsGradients(NamedTuple):
    """The outputs of pair_sums_backward; without elements where there is no such argument."""

    similarity: Tensor
    gram: Tensor
    sqnorm: Tensor
    self_similarity: Tensor
    self_sqnorm: Tensor


# ---- implementation -------------------------------------------------------------------------------------------


def _forward(*inputs: Any) -> tuple[Tensor, ...]:
    a = SIGNATURE.contiguous(inputs)
    if backend.choose(a.similarity.device) == "triton":
        from .triton import pair_sums as kernels

        clean_sums = kernels.pair_sums(a.clean()) if a.clean_rho else _empty_sums(a)[2:]
        return *kernels.pair_sums(a), *clean_sums
    sums, rest, clean, clean_rest = outputs = _empty_sums(a)
    args = native.typed("PairSumsArgs", a.similarity.dtype)(a)
    native.typed("pair_sums", a.similarity.dtype)(
        where_to_work("pair_sums", a.similarity.dtype, a.similarity, args),
        args,
        sums=sums,
        rest=rest,
        clean=clean,
        clean_rest=clean_rest,
    )
    return outputs


def _gradients(
    grad_sums: Tensor,
    sums: Tensor,
    rest: Tensor,
    grad_clean: Tensor,
    clean: Tensor,
    clean_rest: Tensor,
    *given: Any,
) -> tuple[Tensor, ...]:
    a = SIGNATURE.contiguous(given)
    grad_sums, grad_clean = grad_sums.contiguous(), grad_clean.contiguous()
    if backend.choose(a.similarity.device) == "triton":
        from .triton import pair_sums as kernels

        of_clean = kernels.pair_sums_backward(grad_clean, clean, clean_rest, a.clean())[0] if clean.numel() else None
        return kernels.pair_sums_backward(grad_sums, sums, rest, a, onto=of_clean)
    gradients = _empty_gradients(a)
    of = PairSumsGradients(*gradients)
    args = native.typed("PairSumsArgs", a.similarity.dtype)(a)
    native.typed("pair_sums_backward", a.similarity.dtype)(
        where_to_work("pair_sums_backward", a.similarity.dtype, a.similarity, args),
        args,
        sums=sums,
        rest=rest,
        grad_sums=grad_sums,
        clean=clean,
        clean_rest=clean_rest,
        grad_clean=grad_clean,
        grad_similarity=of.similarity,
        grad_gram=of.gram,
        grad_sqnorm=of.sqnorm,
        grad_self_similarity=of.self_similarity,
        grad_self_sqnorm=of.self_sqnorm,
    )
    return gradients


def _empty_sums(a: PairSumsArguments) -> tuple[Tensor, ...]:
    shape = (a.similarity.shape[0], 2)
    clean_shape = shape if a.clean_rho else (0,)
    return tuple(a.similarity.new_empty(size) for size in (shape, shape, clean_shape, clean_shape))


def _empty_gradients(a: PairSumsArguments) -> tuple[Tensor, ...]:
    of = a.similarity, a.gram, a.sqnorm, a.self_similarity, a.self_sqnorm
    return tuple(a.similarity.new_empty(0 if t is None else t.shape) for t in of)


# ---- fake -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("metrix_ext::pair_sums", lib=LIBRARY)
def _forward_fake(*given: Any) -> tuple[Tensor, ...]:
    return _empty_sums(PairSumsArguments(*given))


@torch.library.register_fake("metrix_ext::pair_sums_backward", lib=LIBRARY)
def _backward_fake(
    grad_sums: Tensor, sums: Tensor, rest: Tensor, grad_clean: Tensor, clean: Tensor, clean_rest: Tensor, *given: Any
) -> tuple[Tensor, ...]:
    return _empty_gradients(PairSumsArguments(*given))


# ---- backward -------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    SIGNATURE.save(ctx, inputs, *output)


def _backward(
    ctx: Any, grad_sums: Tensor | None, _grad_rest: Any, grad_clean: Tensor | None, _grad_clean_rest: Any
) -> tuple[Tensor | None, ...]:
    (sums, rest, clean, clean_rest), a = SIGNATURE.saved(ctx)
    if grad_sums is None:
        grad_sums = torch.zeros_like(sums)
    if grad_clean is None:
        grad_clean = torch.zeros_like(clean) if clean.numel() else clean
    of = PairSumsGradients(*_run_backward(grad_sums, sums, rest, grad_clean, clean, clean_rest, *a))
    return SIGNATURE.gradients(
        similarity=of.similarity,
        gram=None if a.gram is None else of.gram,
        sqnorm=None if a.sqnorm is None else of.sqnorm,
        self_similarity=None if a.self_similarity is None else of.self_similarity,
        self_sqnorm=None if a.self_sqnorm is None else of.self_sqnorm,
    )


# ---- registration ---------------------------------------------------------------------------------------------

_run = implement("pair_sums", _forward)
_run_backward = implement("pair_sums_backward", _gradients)
_differentiable = register_autograd("pair_sums", _run, _setup_context, _backward)
