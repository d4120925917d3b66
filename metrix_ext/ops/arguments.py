"""The arguments of the ops that several files of this package read, named as in their schemas."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..terms.mixes import Mixes
from ..terms.relations import Relations
from .signature import SymInt


class PairSumsArguments(NamedTuple):
    """Of pair_sums, whose documentation says what they are; ``exponential`` and ``rho`` as ``terms.formula.flat``, and
    the same of the clean sums, of which ``clean_rho`` is empty where there are none."""

    similarity: Tensor
    positives: Tensor
    self_index: Tensor
    mask: Tensor | None
    anchors_in_order: bool
    pairs: str
    exponential: bool
    rho: list[float]
    lam: Tensor | None
    gram: Tensor | None
    sqnorm: Tensor | None
    self_similarity: Tensor | None
    self_sqnorm: Tensor | None
    first_row: SymInt
    clean_exponential: bool
    clean_rho: list[float]

    @property
    def with_anchor(self) -> bool:
        """Whether the first of each pair is the anchor itself."""
        return self.pairs.startswith("anc-")

    @property
    def lam_is_scalar(self) -> bool:
        return self.lam is not None and self.lam.numel() == 1

    @property
    def rows(self) -> int:
        """Of the matrices by pairs; where there are none, those that there would be."""
        matrix = self.lam if self.gram is None and self.lam is not None and self.lam.numel() != 1 else self.gram
        if matrix is not None and matrix.dim() == 2:
            return matrix.shape[0]
        return self.similarity.shape[0 if self.with_anchor else 1]

    def clean(self) -> PairSumsArguments:
        """Those of the clean sums of the same anchors."""
        return self._replace(
            pairs="clean",
            exponential=self.clean_exponential,
            rho=self.clean_rho,
            lam=None,
            gram=None,
            sqnorm=None,
            self_similarity=None,
            self_sqnorm=None,
            first_row=0,
        )


class AnchorsByClass(NamedTuple):
    """Relations.anchors_by_class() where a mix serves few anchors, and None where it may serve any."""

    anchor_order: Tensor | None
    anchors_of: Tensor | None

    @classmethod
    def of(cls, relations: Relations, pairs: str, examples: int) -> AnchorsByClass:
        if relations.mask is not None or pairs == "neg-neg":
            return cls(None, None)
        return cls(*relations.anchors_by_class(examples))


class AnchorSumsArguments(NamedTuple):
    """Of anchor_sums. The anchors of the classes are given where a mix serves few anchors."""

    mixed: Tensor
    anchors: Tensor
    positives: Tensor
    self_index: Tensor
    mask: Tensor | None
    anchor_order: Tensor | None
    anchors_of: Tensor | None
    first: Tensor
    second: Tensor
    lam: Tensor
    begin: Tensor
    uses: Tensor
    pairs: str
    both_orders: bool
    normalize: bool
    exponential: bool
    rho: list[float]

    @classmethod
    def of(
        cls,
        mixed: Tensor,
        anchors: Tensor,
        relations: Relations,
        mixes: Mixes,
        pairs: str,
        both_orders: bool,
        normalize: bool,
        exponential: bool,
        rho: list[float],
        by_class: AnchorsByClass | None = None,
    ) -> AnchorSumsArguments:
        """``by_class`` if it is known already."""
        by_class = AnchorsByClass.of(relations, pairs, mixes.examples) if by_class is None else by_class
        return cls(
            mixed=mixed,
            anchors=anchors,
            positives=relations.positives,
            self_index=relations.self_index,
            mask=relations.mask,
            anchor_order=by_class.anchor_order,
            anchors_of=by_class.anchors_of,
            first=mixes.first,
            second=mixes.second,
            lam=mixes.lam,
            begin=mixes.begin,
            uses=mixes.uses,
            pairs=pairs,
            both_orders=both_orders,
            normalize=normalize,
            exponential=exponential,
            rho=rho,
        )

    @property
    def mixes(self) -> Mixes:
        return Mixes(self.first, self.second, self.lam, self.begin, self.uses)
