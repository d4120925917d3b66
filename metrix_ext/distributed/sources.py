"""Mixup of feature maps and images that are spread over ranks, of which no rank holds more than its own and another's.

Each rank takes the mixes of its blocks, for all anchors; the sums of Eq. (9) are then added over the ranks. A block is
computed again in backward, its sources are sent again, and their gradient goes back to where they came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..batch.batch import Batch, at_least_float32
from ..batch.recompute import recomputed
from ..heads import PoolingHead
from ..mixing.arguments import Encoder, encoder_of, source_of
from ..mixing.embeddings import mix_projections
from ..mixing.encoded import check_processes, encoded_mixes, recompute_contexts
from ..mixing.fused_heads import check_embedding_size, is_fused
from ..mixing.lambdas import Lambda
from ..ops.anchor_sums import anchor_sums
from ..ops.autocast import autocast_dtype
from ..ops.maps import compute_dtype
from ..ops.mix_pool import mix_pool
from ..reference import log_sum
from ..terms.formula import Rho
from ..terms.mixes import Mixes
from ..terms.pair_sets import unordered
from .blocks import Block, blocks_of
from .ranks import Ranks

Sums = tuple[Tensor, Tensor]  # and how many terms are not 0, [m, 2] each
# From the sources of a block, and the row in which each of its examples is, to what gives the embeddings of mixes.
Embed = Callable[[Tensor, Tensor], Callable[[Mixes], Tensor]]

# Bytes of pooled mixes, their gradients and projections that are alive at a time.
WORKSPACE = 256 * 2**20


class SourcesOfRanks:
    """The ``source`` of a Metrix that is called with the batch of all ranks: what this rank has of it.

    Args:
        source: of this rank, as Metrix takes it.
        sizes: the number of examples of every rank.
    """

    def __init__(self, source: Tensor | Mapping[str, Tensor], ranks: Ranks, sizes: Sequence[int]) -> None:
        self.source, self.ranks, self.sizes = source, ranks, sizes

    def sums(
        self,
        batch: Batch,
        rho: tuple[Rho, Rho],
        mix: str,
        pairs: str,
        lam: Lambda,
        encode: Encoder | Mapping[str, Encoder] | None,
        normalize: bool,
        workspace: int | None,
    ) -> Sums:
        """Both sums of every anchor of the batch over mixes of the sources of all ranks.

        Args:
            normalize: whether the embeddings are l2-normalised.
            workspace: bytes of pooled mixes at a time, as of Metrix.
        """
        device = batch.order.device
        x = source_of(mix, self.source, self.sizes[self.ranks.rank], device)
        encoder = encoder_of(mix, encode, device)
        _check_encoder(encoder)
        head = encoder if isinstance(encoder, PoolingHead) and is_fused(encoder, x) else None
        if head is None:
            check_processes(encoder)
            return self._over_blocks(batch, rho, pairs, lam, x, _through(encoder, batch), encoder, len(x), normalize)
        check_embedding_size(head, batch.anchors.shape[1])
        if head.commutes_with_mixing:
            projected = at_least_float32(head.project(x)).to(batch.anchors.dtype)
            projected = self.ranks.rows(projected, self.sizes)
            return _two(mix_projections(batch, rho, pairs, lam, projected.index_select(0, batch.order)))
        head.check(x)
        size = _mixes_at_a_time(x, head, workspace)
        return self._over_blocks(batch, rho, pairs, lam, x, _through_pool(head, batch), head, size, True)

    def _over_blocks(
        self,
        batch: Batch,
        rho: tuple[Rho, Rho],
        pairs: str,
        lam: Lambda,
        x: Tensor,
        embed: Embed,
        encoder: Encoder,
        size: int,
        normalize: bool,
    ) -> Sums:
        both_orders = lam.one_mix_per_pair and not unordered(pairs)

        def sums_of_block(x: Tensor, block: Block) -> Sums:
            sources = self.ranks.with_neighbour(x, self.sizes, block.step) if block.step else x
            embeddings_of = embed(sources, block.order)

            def sums_of_chunk(mixes: Mixes) -> Sums:
                v = embeddings_of(mixes)
                return anchor_sums(v, batch.anchors, block.relations, rho, pairs, mixes, both_orders, normalize)

            return _added(
                [
                    recomputed(sums_of_chunk, mixes, context_fn=lambda: recompute_contexts(encoder))
                    for mixes in block.mixes(max(1, size))
                ],
                rho,
            )

        own = _added(
            [
                recomputed(sums_of_block, x, block, context_fn=lambda: recompute_contexts(encoder))
                for block in blocks_of(batch, pairs, lam, self.ranks, self.sizes)
            ],
            rho,
        )
        one_each = [1] * self.ranks.count
        sums, nonzero = (self.ranks.rows(part[None], one_each) for part in own)
        return _added(list(zip(sums, nonzero, strict=True)), rho)


def _added(parts: Sequence[Sums], rho: tuple[Rho, Rho]) -> Sums:
    """The sums over several lists of mixes together."""
    sums, nonzero = (torch.stack(of_parts, -1) for of_parts in zip(*parts, strict=True))
    return (log_sum(sums, torch.ones_like(sums)) if rho[0].exponential else sums.sum(-1)), nonzero.sum(-1)


def _two(sums: tuple[Tensor, ...]) -> Sums:
    total, nonzero = sums
    return total, nonzero


def _through(encode: Encoder, batch: Batch) -> Embed:
    """Sources are mixed and given to the encoder."""

    def embed(sources: Tensor, order: Tensor) -> Callable[[Mixes], Tensor]:
        return lambda mixes: encoded_mixes(sources, order, mixes, encode, batch.anchors)

    return embed


def _through_pool(head: PoolingHead, batch: Batch) -> Embed:
    """What the head gives for mixes of feature maps before its l2 norm, without forming them."""

    def embed(features: Tensor, order: Tensor) -> Callable[[Mixes], Tensor]:
        dtype = torch.promote_types(features.dtype, head.linear.weight.dtype)
        dtype = autocast_dtype(features.device) or dtype
        features = features.to(torch.float64 if batch.anchors.dtype == torch.float64 else dtype)
        if features.is_cuda:  # channels side by side are what a warp loads at once
            features = features.contiguous(memory_format=torch.channels_last)
        exact = compute_dtype(features)
        averages = features.mean((2, 3), dtype=exact) if head.pool == "avg+max" else None

        def embeddings_of(mixes: Mixes) -> Tensor:
            pooled = mix_pool(features, order, replace(mixes, lam=mixes.lam.to(exact)), averages)
            return head.linear(pooled).to(batch.anchors.dtype)

        return embeddings_of

    return embed


def _mixes_at_a_time(features: Tensor, head: PoolingHead, workspace: int | None) -> int:
    """Pooled mixes with their gradients and an int16 argmax, and projections with theirs, fit into the workspace."""
    room = WORKSPACE if workspace is None else workspace
    bytes_of_mix = features.shape[1] * (2 * features.element_size() + 2)
    bytes_of_mix += head.linear.out_features * 2 * features.element_size()
    return room // bytes_of_mix


def _check_encoder(encoder: Encoder) -> None:
    modules = encoder.modules() if isinstance(encoder, nn.Module) else ()
    if any(isinstance(module, DistributedDataParallel) for module in modules):
        raise ValueError("encode: is a DistributedDataParallel, expected the module in it, as its .module")
