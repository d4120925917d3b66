"""lambda of the pairs that are mixed: drawn, or given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch.batch import Batch
from ..ops.pair_lambda import pair_lambda
from ..terms.pair_sets import with_anchor


@dataclass(frozen=True)
class Lambda:
    """lambda of the pairs of a batch.

    Attributes:
        of_rows: gives some rows of ``values``; of what is sampled they are computed then, and need not be stored.
        one_mix_per_pair: lambda_ji = 1 - lambda_ij is known to hold, so that {i, j} has one mix for all anchors.
        is_number: one element for all pairs.
    """

    of_rows: Callable[[slice], Tensor]
    one_mix_per_pair: bool
    is_number: bool = False

    def of_anchors(self, own: slice) -> Lambda:
        """The same of some anchors alone, for a set with the anchor, whose rows are these."""

        def of_rows(rows: slice) -> Tensor:
            within = range(own.stop)[own][rows]
            return self.of_rows(slice(within.start, within.stop))

        return self if own == slice(None) else replace(self, of_rows=of_rows)

    @classmethod
    def given(cls, values: Tensor) -> Lambda:
        if values.dim() == 1:
            return cls(lambda _: values, one_mix_per_pair=False, is_number=True)
        return cls(lambda rows: values[rows], one_mix_per_pair=False)

    @property
    def values(self) -> Tensor:
        """One element, or a matrix by (first, second) in the order of the batch; the rows are the anchors for the
        sets with the anchor and the examples otherwise."""
        return self.of_rows(slice(None))

    def at(self, i: Tensor, j: Tensor) -> Tensor:
        """lambda of the listed pairs."""
        values = self.values
        return values[i, j] if values.dim() == 2 else values.expand(len(i))


def sample_lambda(batch: Batch, pairs: str, granularity: str, alpha: float, seed: int | Tensor) -> Lambda:
    """lambda ~ Beta(alpha, alpha): for ``"pair"`` one per unordered pair of the batch, for ``"batch"`` one in all."""
    dtype = batch.anchors.dtype
    if granularity == "pair":
        ids, order = batch.anchor_ids if with_anchor(pairs) else batch.order, batch.order
        return Lambda(lambda rows: pair_lambda(seed, ids[rows], order, alpha, dtype), one_mix_per_pair=True)
    zero_and_one = torch.arange(2, device=batch.order.device)
    lam = pair_lambda(seed, zero_and_one[:1], zero_and_one[1:], alpha, dtype)
    return fixed_lambda(batch, pairs, lam)


def fixed_lambda(batch: Batch, pairs: str, lam: float | Tensor) -> Lambda:
    """A given lambda: a number, or a matrix in the caller's order of anchors and examples.

    Raises:
        ValueError: it is outside [0, 1] or has another shape.
    """
    anchors, order = batch.anchors, batch.order
    n = len(order)
    rows = len(batch.anchors) if with_anchor(pairs) else n
    if isinstance(lam, Tensor):
        if lam.is_meta and not anchors.is_meta:
            raise ValueError(f"lam: is on {lam.device}, expected {anchors.device} as embeddings")
        values = lam.detach().to(anchors)
        values = values.reshape(1) if lam.numel() == 1 else values
        if lam.numel() != 1 and lam.shape != (rows, n):
            raise ValueError(f"lam: got {list(lam.shape)}, expected one element or [{rows}, {n}] with {pairs}")
    else:
        values = torch.full((1,), lam, dtype=anchors.dtype, device=anchors.device)
    if values.dim() == 2:
        row_order = order if batch.anchors_are_examples or not with_anchor(pairs) else None
        values = values if row_order is None else values.index_select(0, row_order)
        values = values.index_select(1, order)
    if pairs == "neg-neg":
        # Sorting by class turned some pairs i < j round; lambda stays the weight of the one that came first.
        turned = order[:, None] > order[None, :]
        values = values.expand(n, n)
        values = torch.where(turned, 1 - values.T, values)
    return Lambda.given(values.contiguous())
