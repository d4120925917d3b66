"""The two sums of Eq. (9) for each way of mixing: embeddings, features through a linear head, anything encoded.

Feature maps through a head with a maximum are in features.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..batch.batch import Batch, inner_products
from ..batch.chunked import is_large, needs_windows, sums_of_anchors, sums_of_windows
from ..batch.shares import shared_out
from ..ops.pair_sums import pair_sums
from ..terms.formula import Rho
from ..terms.pair_sets import with_anchor
from ..terms.relations import Relations
from .factorised import factorised_sums, factorises
from .lambdas import Lambda

Sums = tuple[Tensor, ...]  # and how many terms are not 0, [m, 2] each


def mix_embeddings(
    batch: Batch,
    rho: tuple[Rho, Rho],
    pairs: str,
    lam: Lambda,
    renormalize: bool,
    clean_rho: tuple[Rho, Rho] | None = None,
) -> Sums:
    """Embedding mixup: v = mix(f(x), f(x')).

    Returns:
        Both [m, 2], and with clean_rho those of the clean sums, from the same similarities.
    """

    def of_anchors(own: Batch, rows: slice) -> Sums:
        weights = lam.of_anchors(rows) if with_anchor(pairs) else lam
        return _sums_of_mixes(own, rho, pairs, weights, renormalize, clean_rho)

    return shared_out(batch, of_anchors)


def _sums_of_mixes(
    batch: Batch,
    rho: tuple[Rho, Rho],
    pairs: str,
    lam: Lambda,
    renormalize: bool,
    clean_rho: tuple[Rho, Rho] | None,
) -> Sums:
    anchors, examples = batch.anchors, batch.examples
    take = partial(pair_sums, clean_rho=clean_rho)
    if with_anchor(pairs):
        if batch.anchors_are_examples and not is_large(batch):
            gram = batch.similarity if renormalize else None
            return take(batch.similarity, batch.relations, rho, pairs, lam.values, gram)
        own = batch.square_norms(anchors)  # s(a, a), also the squared norm of the anchor
        norms = batch.square_norms(examples) if renormalize else None

        def sums_of_rows(similarity: Tensor, relations: Relations, rows: slice) -> Sums:
            weights = lam.of_rows(rows)
            if not renormalize:
                return take(similarity, relations, rho, pairs, weights, self_similarity=own[rows])
            return take(similarity, relations, rho, pairs, weights, similarity, norms, own[rows], own[rows])

        return sums_of_anchors(batch, sums_of_rows)
    if lam.is_number and not renormalize:
        values = lam.values
        if not factorises(rho, pairs, values, renormalize):
            return sums_of_anchors(batch, lambda s, relations, _: take(s, relations, rho, pairs, values))

        def factorised(similarity: Tensor, relations: Relations, _: slice) -> Sums:
            mixed = factorised_sums(similarity, relations, rho, values)
            return mixed if clean_rho is None else (*mixed, *pair_sums(similarity, relations, clean_rho))

        return sums_of_anchors(batch, factorised)

    def sums_of(
        similarity: Tensor,
        relations: Relations,
        firsts: Tensor,
        weights: Tensor,
        norms: Tensor | None = None,
        first_row: int = 0,
    ) -> Sums:
        gram = None
        if renormalize:  # anchors that are examples are the firsts of their pairs
            gram = similarity if batch.anchors_are_examples else inner_products(firsts, examples)
        return take(similarity, relations, rho, pairs, weights, gram, norms, first_row=first_row)

    if pairs == "neg-neg" or not needs_windows(batch):
        return sums_of(batch.similarity, batch.relations, examples, lam.values)
    norms = batch.square_norms(examples) if renormalize else None
    return sums_of_windows(batch, lambda s, r, w: sums_of(s, r, examples[w], lam.of_rows(w), norms, w.start))


def mix_projections(batch: Batch, rho: tuple[Rho, Rho], pairs: str, lam: Lambda, projected: Tensor) -> Sums:
    """Feature mixup through a linear head: the mix of feature maps is projected to the mix of projections.

    Args:
        projected: [n, d] what the head gives before its l2 norm, in the order of the batch.
    """
    # Mixes are normalised, so all projections may be divided by one number: by the largest where squares overflow.
    largest = projected.detach().abs().amax() if projected.numel() else projected.new_ones(())
    limit = torch.finfo(projected.dtype).max ** 0.45
    projected = projected / torch.where((largest > limit) & largest.isfinite(), largest, 1.0)
    gram = inner_products(projected, projected)

    def of_anchors(own: Batch, _: slice) -> Sums:
        return pair_sums(inner_products(own.anchors, projected), own.relations, rho, pairs, lam.values, gram)

    # The sets with the anchor have no more terms than the Gram matrix has elements, which every process computes.
    return of_anchors(batch, slice(None)) if with_anchor(pairs) else shared_out(batch, of_anchors)
