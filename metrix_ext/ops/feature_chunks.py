"""What feature_sums works on: its arguments, the chunks of its mixes, and what of them is kept for backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..terms.mixes import TILES, Mixes
from ..terms.pair_sets import unordered
from ..terms.relations import Relations
from ..terms.used_pairs import used_pairs
from .arguments import AnchorSumsArguments
from .maps import compute_dtype
from .mix_pool import fill


class FeatureSumsArguments(NamedTuple):
    """Of n examples and m anchors; d is the size of an embedding.

    Attributes:
        features: [n, c, h, w] float16, bfloat16, float32 or float64.
        weight: [d, c] of the linear layer of the head, in the type of the features.
        bias: [d] or None, likewise.
        anchors: [m, d] float64 for float64 features, float32 otherwise.
        order: [n] int64, example e is features[order[e]].
        positives, self_index, mask: the relations of the anchors and the examples.
        lam: [n, n] by (first, second) example, or one element, in the type of the anchors.
        pairs: the name of a set of pairs.
        one_mix_per_pair: lam[j, i] is 1 - lam[i, j], so that one mix serves both orders.
        average: the head adds the average over positions to the maximum.
        exponential, rho: as ``terms.formula.flat``.
        workspace: bytes for the mixes of a chunk, and for what is kept.
        wanted: whether features, weight and any of the others have a gradient.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None
    anchors: Tensor
    order: Tensor
    positives: Tensor
    self_index: Tensor
    mask: Tensor | None
    lam: Tensor
    pairs: str
    one_mix_per_pair: bool
    average: bool
    exponential: bool
    rho: list[float]
    workspace: int
    wanted: list[bool]

    @property
    def relations(self) -> Relations:
        return Relations(self.positives, self.self_index, self.mask)

    @property
    def averages(self) -> Tensor | None:
        return self.features.mean((2, 3), dtype=compute_dtype(self.features)) if self.average else None

    def chunks(self) -> Iterator[tuple[slice, Mixes]]:
        """Where a chunk is in the list of all mixes, and its mixes."""
        size = self._chunk_size()
        chunks = used_pairs(self.relations, self.pairs, self.one_mix_per_pair, len(self.order), size)
        for k, pairs in enumerate(chunks):
            at = slice(k * size, k * size + len(pairs))
            lam = self.lam[pairs.first, pairs.second] if self.lam.dim() == 2 else self.lam.expand(len(pairs))
            yield at, pairs.mixes(lam)

    def anchor_sums(self, projected: Tensor, mixes: Mixes) -> AnchorSumsArguments:
        """What anchor_sums takes of a chunk."""
        return AnchorSumsArguments.of(
            projected,
            self.anchors,
            self.relations,
            mixes,
            self.pairs,
            both_orders=self.one_mix_per_pair and not unordered(self.pairs),
            normalize=True,
            exponential=self.exponential,
            rho=self.rho,
        )

    def _chunk_size(self) -> int:
        """Mixes at a time, in whole tiles if one fits: pooled and projected, their gradients, an int16 argmax."""
        bytes_of_element = self.features.element_size()
        channels, size = self.features.shape[1], self.weight.shape[0]
        bytes_of_mix = channels * (2 * bytes_of_element + 2) + size * 2 * bytes_of_element
        room = self.workspace // max(1, bytes_of_mix)
        whole = next((tile**2 for tile in TILES if tile**2 <= room), TILES[-1] ** 2)
        return max(whole, room // whole * whole)

    def kept(self) -> Kept:
        """Room for what is kept. Its size is known without looking at the data: for all pairs, used or not."""
        n, (size, channels) = self.order.shape[0], self.weight.shape
        rows = n * (n - 1) // (2 if self.one_mix_per_pair or unordered(self.pairs) else 1)
        of_features, of_weight, _ = self.wanted
        fits = rows * size * self.features.element_size() <= self.workspace
        is_one_chunk = rows <= self._chunk_size()
        return Kept(
            self.features.new_empty((rows if any(self.wanted) and fits else 0, size)),
            self.features.new_empty((rows if of_weight and is_one_chunk else 0, channels)),
            self.features.new_empty((rows if of_features and is_one_chunk else 0, channels), dtype=torch.int16),
        )

    def pool(self, mixes: Mixes, averages: Tensor | None, pooled: Tensor | None, argmax: Tensor | None) -> Tensor:
        """The mixes of a chunk [p, c], into a tensor if one is given, and where their maxima are."""
        if pooled is None:
            pooled = self.features.new_empty((len(mixes), self.features.shape[1]))
        fill(self.features, self.order, mixes, averages, pooled, argmax)
        return pooled

    def again(
        self,
        mixes: Mixes,
        averages: Tensor | None,
        projected: Tensor | None,
        pooled: Tensor | None,
        argmax: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What backward needs of a chunk: what was kept, or all of it made again."""
        of_features, of_weight, _ = self.wanted
        if projected is None or (of_weight and pooled is None) or (of_features and argmax is None):
            shape = len(mixes), self.features.shape[1]
            argmax = self.features.new_empty(shape, dtype=torch.int16) if of_features else None
            pooled = self.pool(mixes, averages, None, argmax)
            projected = self.project(pooled) if projected is None else projected
        return projected, pooled, argmax

    def project(self, pooled: Tensor, out: Tensor | None = None) -> Tensor:
        """The linear layer, [p, d]."""
        if self.bias is None:
            return torch.mm(pooled, self.weight.T, out=out)
        return torch.addmm(self.bias, pooled, self.weight.T, out=out)


class Kept(NamedTuple):
    """What forward leaves to backward: of all mixes, or empty."""

    projected: Tensor  # [p, d]
    pooled: Tensor  # [p, c]
    argmax: Tensor  # [p, c]

    def of_chunk(self, at: slice) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        projected, pooled, argmax = (tensor[at] if len(tensor) else None for tensor in self)
        return projected, pooled, argmax
