"""The two sums of Eq. (9) for each way of mixing: embeddings, features through a linear head, anything encoded.

Feature maps through a head with a maximum are in features.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .batch import Batch, inner_products
from .chunked import is_large, needs_windows, sums_of_anchors, sums_of_windows
from .factorised import factorised_sums, factorises
from .formula import Rho
from .ops.anchor_sums import anchor_sums
from .ops.mixes import Mixes
from .ops.pair_sums import pair_sums
from .pairs import Lambda, unordered, with_anchor
from .reference import log_sum
from .relations import Relations
from .used_pairs import used_pairs

Sums = tuple[Tensor, ...]  # and how many terms are not 0, [m, 2] each


def mix_embeddings(
    batch: Batch, rho: tuple[Rho, Rho], pairs: str, lam: Lambda, renormalize: bool, with_clean: bool = False
) -> Sums:
    """Embedding mixup: v = mix(f(x), f(x')).

    Returns:
        Both [m, 2], and with_clean those of the clean sums, from the same similarities.
    """
    anchors, examples = batch.anchors, batch.examples
    take = partial(pair_sums, with_clean=with_clean)
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
            return (*mixed, *pair_sums(similarity, relations, rho)) if with_clean else mixed

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
    similarity = inner_products(batch.anchors, projected)
    gram = inner_products(projected, projected)
    return pair_sums(similarity, batch.relations, rho, pairs, lam.values, gram)


def mix_encoded(
    batch: Batch,
    rho: tuple[Rho, Rho],
    pairs: str,
    lam: Lambda,
    source: Tensor,
    encode: Callable[[Tensor], Tensor],
    normalize: bool,
) -> Sums:
    """Mixup of anything that has to be encoded: images through the model, feature maps through any head.

    Only the pairs that some anchor uses are mixed, one mix for all its anchors, n at a time. Mixes and activations are
    recomputed in backward: memory grows with the batch, not with the number of pairs.

    Args:
        source: [n, ...] what is mixed, in the caller's order.
        encode: maps mixed sources [p, ...] to embeddings [p, d].
        normalize: whether the embeddings are l2-normalised again.
    """
    n, dtype = len(batch.order), batch.anchors.dtype
    both_orders = lam.one_mix_per_pair and not unordered(pairs)

    def sums_of_chunk(mixes: Mixes) -> Sums:
        first, second = (source.index_select(0, batch.order[index]) for index in (mixes.first, mixes.second))
        weight = mixes.lam.to(source.dtype).reshape(-1, *[1] * (source.dim() - 1))
        v = encode(torch.lerp(second, first, weight)).to(dtype)
        return anchor_sums(v, batch.anchors, batch.relations, rho, pairs, mixes, both_orders, normalize)

    sums, nonzero = [], []
    for listed in used_pairs(batch.relations, pairs, lam.one_mix_per_pair, n, max(1, n)):
        chunk_sums, chunk_nonzero = checkpoint(
            sums_of_chunk,
            listed.mixes(lam.at(listed.first, listed.second)),
            use_reentrant=False,
            context_fn=lambda: _recompute_contexts(encode),
        )
        sums.append(chunk_sums)
        nonzero.append(chunk_nonzero)
    stacked, counts = torch.stack(sums, -1), torch.stack(nonzero, -1).sum(-1)
    return (log_sum(stacked, torch.ones_like(stacked)) if rho[0].exponential else stacked.sum(-1)), counts


def _recompute_contexts(
    encode: Callable[[Tensor], Tensor],
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return contextlib.nullcontext(), _frozen_running_statistics(encode)


@contextlib.contextmanager
def _frozen_running_statistics(encode: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Keeps the recomputation of backward from updating batch-norm statistics a second time."""
    modules = encode.modules() if isinstance(encode, nn.Module) else ()
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for module in norms:
        # Tracking goes on, with momentum 0: without it the recomputation would save other tensors than forward did.
        module.momentum, module.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for module, (momentum, batches) in zip(norms, before, strict=True):
            module.momentum, module.num_batches_tracked = momentum, batches
