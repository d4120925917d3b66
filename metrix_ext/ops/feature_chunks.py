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
from .arguments import AnchorsByClass, AnchorSumsArguments
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
        workspace: bytes for the mixes of a chunk, and for what is kept of all.
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
        size = self._sizes().chunk
        chunks = used_pairs(self.relations, self.pairs, self.one_mix_per_pair, len(self.order), size)
        for k, pairs in enumerate(chunks):
            at = slice(k * size, k * size + len(pairs))
            lam = self.lam[pairs.first, pairs.second] if self.lam.dim() == 2 else self.lam.expand(len(pairs))
            yield at, pairs.mixes(lam)

    def anchors_by_class(self) -> AnchorsByClass:
        """Made once for all chunks."""
        return AnchorsByClass.of(self.relations, self.pairs, len(self.order))

    def anchor_sums(self, projected: Tensor, mixes: Mixes, by_class: AnchorsByClass) -> AnchorSumsArguments:
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
            by_class=by_class,
        )

    def _sizes(self) -> Sizes:
        """One chunk of all mixes where the workspace has room for all that belongs to them. Otherwise a quarter of it
        is for the chunk at work, in whole tiles if one fits, and the rest for what is kept: projections first."""
        n, (size, channels) = self.order.shape[0], self.weight.shape
        rows = n * (n - 1) // (2 if self.one_mix_per_pair or unordered(self.pairs) else 1)
        element = self.features.element_size()
        of_features, of_weight, _ = self.wanted
        kept = rows if any(self.wanted) else 0
        # Pooled and projected, their gradients, an int16 argmax.
        bytes_of_mix = max(1, channels * (2 * element + 2) + size * 2 * element)
        if rows * bytes_of_mix <= self.workspace:
            return Sizes(max(rows, 1), kept, kept if of_weight or of_features else 0)
        room = self.workspace // 4 // bytes_of_mix
        whole = next((tile**2 for tile in TILES if tile**2 <= room), TILES[-1] ** 2)
        chunk = max(whole, room // whole * whole)
        left = self.workspace - chunk * bytes_of_mix

        def fit(most: int, bytes_of_row: int) -> int:
            """Rows of whole chunks for which there is room, or all."""
            fitting = max(0, left) // max(1, bytes_of_row)
            return most if fitting >= most else fitting // chunk * chunk

        projected = fit(kept, size * element)
        left -= projected * size * element
        mixed = fit(projected, channels * (element * of_weight + 2 * of_features)) if of_weight or of_features else 0
        return Sizes(chunk, projected, mixed)

    def kept(self) -> Kept:
        """Room for what is kept. Its size is known without looking at the data: for all pairs, used or not."""
        sizes, (size, channels) = self._sizes(), self.weight.shape
        of_features, of_weight, _ = self.wanted
        return Kept(
            self.features.new_empty((sizes.projected, size)),
            self.features.new_empty((sizes.mixed if of_weight else 0, channels)),
            self.features.new_empty((sizes.mixed if of_features else 0, channels), dtype=torch.int16),
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


class Sizes(NamedTuple):
    """Mixes at a time, and how many from the first on have projections and have pooled maps and maxima kept."""

    chunk: int
    projected: int
    mixed: int


class Kept(NamedTuple):
    """What forward leaves to backward: of the mixes of the first chunks."""

    projected: Tensor  # [p, d]
    pooled: Tensor  # [p, c]
    argmax: Tensor  # [p, c]

    def of_chunk(self, at: slice) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        projected, pooled, argmax = (tensor[at] if at.start < at.stop <= len(tensor) else None for tensor in self)
        return projected, pooled, argmax
