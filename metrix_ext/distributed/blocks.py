"""The pairs of the global batch, shared out: each rank mixes its own examples with each other and with a neighbour's.

Block k of a rank are the pairs of one of its examples and one of the rank's k places ahead; around a ring half the
places reach every pair of ranks. What is half the ring ahead sees this rank just as far ahead, so each takes every
other pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch.batch import Batch
from ..mixing.lambdas import Lambda
from ..terms.mixes import Mixes, all_pairs
from ..terms.pair_sets import unordered
from ..terms.relations import Relations
from ..terms.used_pairs import used_by_anchors
from .ranks import Ranks


@dataclass(frozen=True)
class Block:
    """Some pairs of the examples of one rank or two.

    Attributes:
        step: how far ahead the other rank is; 0 is this rank itself.
        order: [c] int64, in which row of the joined sources each of the examples is.
        relations: of all anchors of the global batch and these examples.
        first, second: [p] int64, the pairs.
        lam: [p], lambda of the pairs.
    """

    step: int
    order: Tensor
    relations: Relations
    first: Tensor
    second: Tensor
    lam: Tensor

    def mixes(self, size: int) -> list[Mixes]:
        """The mixes in lists of a size; at least one, so that also a sum of no mixes is differentiable."""
        parts = zip(*(pairs.split(size) for pairs in (self.first, self.second, self.lam)), strict=True)
        return [Mixes.of(first, second, lam, len(self.order)) for first, second, lam in parts]


def blocks_of(batch: Batch, pairs: str, lam: Lambda, ranks: Ranks, sizes: Sequence[int]) -> list[Block]:
    """The blocks of this rank, as many on every rank; together the mixes that some anchor of the batch uses.

    Args:
        batch: of all ranks.
        sizes: the number of examples of every rank.
    """
    used = used_by_anchors(batch.relations, pairs, lam.one_mix_per_pair, len(batch.order))
    values = lam.values
    both_orders = not (lam.one_mix_per_pair or unordered(pairs))

    def block(step: int) -> Block:
        columns, order, is_own = _examples(batch.order, sizes, ranks.rank, ranks.neighbour(step))
        if step == 0:
            first, second = all_pairs(len(columns), both_orders, columns.device)
        else:
            first, second = (side.flatten() for side in torch.meshgrid(*_where(is_own), indexing="ij"))
            if 2 * step == ranks.count:
                of_lower = (batch.order[columns[first]] + batch.order[columns[second]]) % 2 == 0
                mine = of_lower == (ranks.rank < ranks.neighbour(step))
                first, second = first[mine], second[mine]
            if both_orders:
                first, second = torch.cat((first, second)), torch.cat((second, first))
            else:
                first, second = torch.minimum(first, second), torch.maximum(first, second)
        chosen = used[columns[first], columns[second]]
        first, second = first[chosen], second[chosen]
        lam_of_pairs = values[columns[first], columns[second]] if values.dim() == 2 else values.expand(len(first))
        return Block(step, order, batch.relations.of_columns(columns), first, second, lam_of_pairs)

    return [block(step) for step in range(ranks.count // 2 + 1)]


def _examples(order: Tensor, sizes: Sequence[int], rank: int, other: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which examples of the batch two ranks hold, in which row of their joined sources, and whether the first does.

    Args:
        order: [n] where each example of the batch stands among the rows of all ranks.
    """
    begin, begin_of_other = sum(sizes[:rank]), sum(sizes[:other])
    own = (begin <= order) & (order < begin + sizes[rank])
    others = (begin_of_other <= order) & (order < begin_of_other + sizes[other])
    columns = (own | others).nonzero().squeeze(1)
    is_own = own[columns]
    rows = torch.where(is_own, order[columns] - begin, order[columns] - begin_of_other + sizes[rank])
    return columns, rows, is_own


def _where(is_own: Tensor) -> tuple[Tensor, Tensor]:
    """The places of the true and of the false ones."""
    return is_own.nonzero().squeeze(1), (~is_own).nonzero().squeeze(1)
