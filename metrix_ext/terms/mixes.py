"""A list of mixes of examples, as mix_pool and anchor_sums read it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .kept import Kept

# Kernels keep the features of a tile of examples at hand. A larger tile is made of smaller ones, each half as wide.
TILES = (32, 16, 8, 4)


@dataclass(frozen=True)
class PairList:
    """p pairs of n examples.

    Attributes:
        first, second: [p] int64, two different examples each.
        begin: [n + 1] int64, where the uses of each example begin.
        uses: [2 p] int64, example by example: u < p as the first of pair u, u >= p as the second of pair u - p.
    """

    first: Tensor
    second: Tensor
    begin: Tensor
    uses: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor, examples: int) -> PairList:
        """Finds the uses of every example. No device synchronisation."""
        used, uses = torch.cat((first, second)).sort(stable=True)
        begin = torch.searchsorted(used, torch.arange(examples + 1, device=used.device))
        return cls(first.contiguous(), second.contiguous(), begin, uses)

    def __len__(self) -> int:
        return len(self.first)

    def mixes(self, lam: Tensor) -> Mixes:
        """With lambda [p] of the pairs."""
        return Mixes(self.first, self.second, lam.contiguous(), self.begin, self.uses)


@dataclass(frozen=True)
class Mixes:
    """p mixes lambda x_first + (1 - lambda) x_second of n examples: a PairList and lambda.

    Attributes:
        lam: [p] float32 or float64, the weight of the first.
    """

    first: Tensor
    second: Tensor
    lam: Tensor
    begin: Tensor
    uses: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor, lam: Tensor, examples: int) -> Mixes:
        return PairList.of(first, second, examples).mixes(lam)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def examples(self) -> int:
        return len(self.begin) - 1

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The arguments of the ops."""
        return self.first, self.second, self.lam, self.begin, self.uses

    def contiguous(self) -> Mixes:
        return Mixes(*(tensor.contiguous() for tensor in self.tensors))


# Lists of a batch up to this size are kept, since they take longer to make than to use (at 1,024 on an H100 2 of 31 ms
# of a step). 4 of them take 34 MB at most.
KEPT_UP_TO = 1024


def is_kept(examples: int, device: torch.device) -> bool:
    """Whether lists of a batch of this size are kept, which none may be that a tracing mode or a compiler has made."""
    if examples > KEPT_UP_TO or torch.compiler.is_compiling():
        return False
    return type(torch.empty(0, device=device)) is Tensor


def all_pairs(examples: int, ordered: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Every pair (i, j) of different examples, i < j unless ordered, tile by tile.

    First come the whole tiles of 32 x 32, then of those that the diagonal and the edge cut the whole ones of 16 x 16,
    and so on. In a tile come its quarters, row by row, and so on; in one of 4 x 4 the pairs, row by row. So of the
    whole tiles of 32 x 32 every 16^2 pairs in a row are whole ones, too, and every 4^2.
    """
    return (_kept_pairs if is_kept(examples, device) else _pairs)(examples, ordered, device)


def _pairs(examples: int, ordered: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    index = torch.arange(examples, device=device)
    first, second = (t.reshape(-1) for t in torch.meshgrid(index, index, indexing="ij"))
    key = torch.zeros_like(first)
    for tile in TILES:
        edge = examples // tile * tile
        key += (first // tile == second // tile) | (first >= edge) | (second >= edge)
    for tile in TILES:
        rows = examples // tile + 1 if tile == TILES[0] else 2
        key = (key * rows + first // tile % rows) * rows + second // tile % rows
    # Boolean indexing would synchronise the device; the number of pairs is known.
    left_out = first == second if ordered else first >= second
    count = examples * (examples - 1) // (1 if ordered else 2)
    order = key.masked_fill(left_out, torch.iinfo(torch.int64).max).argsort(stable=True)[:count]
    return first[order], second[order]


_kept_pairs = Kept(_pairs, size=4)
