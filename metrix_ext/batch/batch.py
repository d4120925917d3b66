"""A batch in the order that the kernels read: anchors, examples sorted by class, who is positive for whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..ops.gram import gram
from ..ops.product import product
from ..terms.formula import AnchorSums
from ..terms.pair_sets import count_terms
from ..terms.relations import Relations


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """x y^T, [m, d] and [n, d] to [m, n], in float32 or float64 also under autocast and where TF32 is allowed.

    gamma = 75 turns the rounding of a bfloat16 similarity into an error of 15 % of a term.
    """
    return gram(x) if x is y else product(x, y.T)


def at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@dataclass
class Batch:
    """m anchors and n examples sorted by class.

    Attributes:
        anchors: [m, d] float32 or float64, normalised if the loss does so.
        examples: [n, d] likewise.
        order: [n] int64, where each example stood in what the caller gave.
        relations: P(a) and N(a).
        anchors_are_examples: anchor a is example a; then anchors is examples.
        normalized: anchors and examples have been l2-normalised here.
    """

    anchors: Tensor
    examples: Tensor
    order: Tensor
    relations: Relations
    anchors_are_examples: bool
    normalized: bool
    _similarity: Tensor | None = None

    @property
    def similarity(self) -> Tensor:
        """s(a, x) of every anchor and example, [m, n]; computed once."""
        if self._similarity is None:
            self._similarity = inner_products(self.anchors, self.examples)
        return self._similarity

    def square_norms(self, x: Tensor) -> Tensor:
        """|x|^2 of anchors or examples, [m] or [n].

        Constants where those are normalised: the gradient is radial, so that of the norm takes it out again, and in
        float32 would leave an error that grows with the batch.
        """
        x = x.detach() if self.normalized else x
        return (x * x).sum(1)

    @property
    def anchor_ids(self) -> Tensor:
        """[m] int64, what lambda of a pair knows the anchor by: where the example that it is stood in what the caller
        gave. Anchors that are no examples count on after them."""
        if self.anchors_are_examples:
            return self.order
        m, n = len(self.anchors), len(self.examples)
        after, own = torch.arange(n, n + m, device=self.order.device), self.relations.self_index
        return torch.cat((self.order, after))[torch.where(own < 0, after, own)]

    def of_anchors(self, rows: slice) -> Batch:
        """The same examples with some of the anchors."""
        return replace(
            self,
            anchors=self.anchors[rows],
            relations=self.relations.of_rows(rows),
            anchors_are_examples=False,
            _similarity=None if self._similarity is None else self._similarity[rows],
        )

    def keep_hard_negatives(self, k: int) -> Batch:
        """The same batch with only the k negatives of highest similarity of every anchor.

        Of equally similar ones those that the caller gave first.
        """
        mask = self.relations.dense(len(self.order))
        negative = mask == -1
        score = self.similarity.detach().masked_fill(~negative, -torch.inf)
        as_given = self.order.argsort()
        ranked = score[:, as_given].argsort(dim=1, descending=True, stable=True)
        hardest = torch.zeros_like(negative).scatter_(1, as_given[ranked[:, :k]], True)
        return replace(self, relations=self.relations.keep_pairs(mask.masked_fill(negative & ~hardest, 0)))


def counted(batch: Batch, pairs: str, sums: Tensor, nonzero: Tensor) -> AnchorSums:
    """The sums of every anchor of a batch, with the numbers of their terms."""
    return AnchorSums(
        sums, lambda: count_terms(pairs, batch.relations, len(batch.order)), nonzero, mixed=pairs != "clean"
    )
