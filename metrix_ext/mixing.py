"""The two sums of Eq. (9) for each way of mixing: embeddings, features through a linear head, anything encoded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .batch import Batch, inner_products
from .chunked import sums_of_anchors
from .factorised import factorised_sums, factorises
from .formula import Rho
from .heads import PoolingHead
from .ops.pair_sums import pair_sums
from .pairs import Lambda, unordered, with_anchor
from .reference import both_sums, log_sum
from .relations import Relations

Sums = tuple[Tensor, Tensor]

# Bytes of mixed feature maps that are alive at a time, forward and backward.
WORKSPACE = 64 * 2**20


def mix_embeddings(batch: Batch, rho: tuple[Rho, Rho], pairs: str, lam: Lambda, renormalize: bool) -> Sums:
    """Embedding mixup: v = mix(f(x), f(x'))."""
    anchors, examples = batch.anchors, batch.examples
    if with_anchor(pairs):
        own = (anchors * anchors).sum(1)  # s(a, a), also the squared norm of the anchor
        norms = (examples * examples).sum(1) if renormalize else None

        def sums_of_rows(similarity: Tensor, relations: Relations, rows: slice) -> Sums:
            weights = lam.of_rows(rows)
            if not renormalize:
                return pair_sums(similarity, relations, rho, pairs, weights, self_similarity=own[rows])
            return pair_sums(similarity, relations, rho, pairs, weights, similarity, norms, own[rows], own[rows])

        return sums_of_anchors(batch, sums_of_rows)
    values = lam.values
    if factorises(rho, pairs, values, renormalize):
        return sums_of_anchors(batch, lambda s, relations, _: factorised_sums(s, relations, rho, values))
    similarity, relations = batch.similarity, batch.relations
    if not renormalize:
        return pair_sums(similarity, relations, rho, pairs, values)
    gram = similarity if batch.anchors_are_examples else inner_products(examples, examples)
    return pair_sums(similarity, relations, rho, pairs, values, gram)


def mix_projections(batch: Batch, rho: tuple[Rho, Rho], pairs: str, lam: Lambda, projected: Tensor) -> Sums:
    """Feature mixup through a linear head: the mix of feature maps is projected to the mix of projections.

    Args:
        projected: [n, d] what the head gives before its l2 norm, in the order of the batch.
    """
    similarity = inner_products(batch.anchors, projected)
    gram = inner_products(projected, projected)
    if not with_anchor(pairs):
        return pair_sums(similarity, batch.relations, rho, pairs, lam.values, gram)
    own = similarity.diagonal(), gram.diagonal()
    return pair_sums(similarity, batch.relations, rho, pairs, lam.values, gram, gram.diagonal(), *own)


def mix_encoded(
    batch: Batch,
    rho: tuple[Rho, Rho],
    pairs: str,
    lam: Lambda,
    source: Tensor,
    encode: Callable[[Tensor], Tensor],
    normalize: bool,
    workspace: int = WORKSPACE,
) -> Sums:
    """Mixup of anything that has to be encoded: feature maps through a head, images through the model.

    Only the pairs that some anchor uses are mixed, one mix for all its anchors, in chunks whose mixes and activations
    are recomputed in backward: memory grows with the chunk, not with the number of pairs.

    Args:
        source: [n, ...] what is mixed, in the caller's order.
        encode: maps mixed sources [p, ...] to embeddings [p, d].
        normalize: whether the embeddings are l2-normalised again.
        workspace: bytes of mixed feature maps at a time, for a PoolingHead; other encoders get n mixes at a time.
    """
    n = len(batch.order)
    mask = batch.relations.dense(n)
    first, second = used_pairs(mask, batch.relations.self_index, pairs, lam.one_mix_per_pair)
    values = lam.at(first, second)
    encode_mix = _encoder(source, encode)
    if isinstance(encode, PoolingHead):
        # Four maps of a pair are alive: both sources, their mix and its gradient.
        size = max(1, workspace // max(1, 4 * source[:1].numel() * source.element_size()))
    else:
        size = max(1, n)

    def sums_of_chunk(i: Tensor, j: Tensor, lam_ij: Tensor) -> Sums:
        v = encode_mix(batch.order[i], batch.order[j], lam_ij).to(batch.anchors.dtype)
        v = F.normalize(v) if normalize else v
        y, used = mixed_labels(mask, batch.relations.self_index, pairs, i, j, lam_ij, lam.one_mix_per_pair)
        return both_sums(rho, inner_products(batch.anchors, v), y, used)

    sums, nonzero = [], []
    for i, j, lam_ij in zip(first.split(size), second.split(size), values.split(size), strict=True):
        chunk_sums, chunk_nonzero = checkpoint(
            sums_of_chunk, i, j, lam_ij, use_reentrant=False, context_fn=lambda: _recompute_contexts(encode)
        )
        sums.append(chunk_sums)
        nonzero.append(chunk_nonzero)
    stacked, counts = torch.stack(sums, -1), torch.stack(nonzero, -1).sum(-1)
    return (log_sum(stacked, torch.ones_like(stacked)) if rho[0].exponential else stacked.sum(-1)), counts


def used_pairs(mask: Tensor, self_index: Tensor, pairs: str, one_mix_per_pair: bool) -> tuple[Tensor, Tensor]:
    """The pairs (i, j) of examples that at least one anchor mixes; i < j where one mix serves both orders.

    Their number depends on the data, so a device is synchronised once.
    """
    positive, negative = (mask == 1).float(), (mask == -1).float()
    if with_anchor(pairs):
        used = torch.zeros(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device)
        used[self_index] = mask == (-1 if pairs == "anc-neg" else 1)
    else:
        firsts = negative if pairs == "neg-neg" else positive
        seconds = positive if pairs == "pos-pos" else negative
        used = firsts.T @ seconds > 0
    if unordered(pairs) or one_mix_per_pair:
        used = (used | used.T).triu(1)
    first, second = used.nonzero(as_tuple=True)
    return first, second


def mixed_labels(
    mask: Tensor, self_index: Tensor, pairs: str, i: Tensor, j: Tensor, lam: Tensor, one_mix_per_pair: bool
) -> tuple[Tensor, Tensor]:
    """Label of the mixes (i, j) for every anchor, and whether the anchor uses them; [m, pairs] each.

    Where one mix serves both orders, it is mix(j, i) with 1 - lambda for anchors that have j as the first.
    """

    def uses(first: Tensor, second: Tensor) -> Tensor:
        if with_anchor(pairs):
            return (self_index[:, None] == first) & (mask[:, second] == (-1 if pairs == "anc-neg" else 1))
        return (mask[:, first] == (-1 if pairs == "neg-neg" else 1)) & (
            mask[:, second] == (1 if pairs == "pos-pos" else -1)
        )

    forward = uses(i, j)
    used = forward
    if one_mix_per_pair and not unordered(pairs):
        used = forward | uses(j, i)
    if pairs in ("pos-pos", "anc-pos"):
        y = torch.ones_like(lam)
    elif pairs == "neg-neg":
        y = torch.zeros_like(lam)
    else:
        y = torch.where(forward, lam, 1 - lam)
    return y.expand(used.shape), used


def _encoder(source: Tensor, encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """mix and encode listed pairs of the source."""
    (-1, *[1] * (source.dim() - 1))

    def mix(x: Tensor, i: Tensor, j: Tensor, lam: Tensor) -> Tensor:
        weight = lam.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
        return torch.lerp(x.index_select(0, j), x.index_select(0, i), weight)

    if not isinstance(encode, PoolingHead):
        return lambda i, j, lam: encode(mix(source, i, j, lam))
    # The average commutes with mixing: it is pooled once per example, and only the maximum sees mixed positions.
    averages = encode.average_pool(source) if "avg" in encode.pool else None

    def encode_pooled(i: Tensor, j: Tensor, lam: Tensor) -> Tensor:
        pooled = encode.max_pool(mix(source, i, j, lam))
        if averages is not None:
            pooled = pooled + mix(averages, i, j, lam)
        return encode.normalize(encode.linear(pooled))

    return encode_pooled


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
