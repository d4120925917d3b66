"""Table 1: eight losses, each a row of data over one op.

Every loss is called as those of pytorch-metric-learning, ``loss(embeddings, labels)``, and returns the mean of Eq. (7)
over all anchors. Anchors whose loss is undefined because a set is empty contribute 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .batch.batch import Batch, counted
from .batch.candidates import candidates_from_examples, candidates_from_proxies
from .batch.chunked import Sums, sums_of_anchors
from .batch.shares import shared_out
from .ops.mean_loss import mean_loss
from .ops.pair_sums import pair_sums
from .terms.checks import check_choice, check_flag, check_number, check_whole
from .terms.formula import AnchorSums, Formula, Rho, Sigma, mean

LOG1P = Sigma("log1p")


class LossParts(NamedTuple):
    """A loss and what it is made of, to be logged. Scalars on the device of the loss, which is not waited for.

    Attributes:
        loss: what ``forward`` returns.
        clean: the mean of Eq. (7) over all anchors, without a gradient.
        mixed: the mean of Eq. (9), before it is multiplied by its strength, without a gradient; None where nothing is
            mixed.
    """

    loss: Tensor
    clean: Tensor
    mixed: Tensor | None


class TableLoss(nn.Module):
    """A row of Table 1. Subclasses give the formula; these three say what is compared with what.

    Attributes:
        formula: rho, sigma and tau.
        anchors, candidates: "examples" or "proxies".
    """

    anchors = "examples"
    candidates = "examples"
    formula: Formula
    proxies: Tensor

    def __init__(self, formula: Formula, normalize: bool = True) -> None:
        super().__init__()
        self.formula = formula
        self.normalize = check_flag("normalize", normalize)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> Tensor:
        """Eq. (7), averaged over anchors (Eq. 10 without mixing).

        Args:
            embeddings: [n, d] floating point; l2-normalised here unless ``normalize=False``. Half types are
                computed in float32, also under autocast.
            labels: [n] integers.
            indices_tuple: a miner's output, (anchors, positives, negatives) or (anchors, positives, anchors,
                negatives): only these pairs count, each once. Not for losses with proxies.
            ref_emb: [r, d] compare the embeddings with these instead of with each other.
            ref_labels: [r] integers, with ref_emb.
            ref_self: [n] integers, with ref_emb: the row of it that is a copy of each embedding, as in a memory that
                already has the batch, or -1. An anchor is not its own positive, and a copy looks like any other row.

        Returns:
            A scalar, float32 or float64. 0, with zero gradients, if there is nothing to compare.

        Raises:
            TypeError, ValueError: an argument is not as above.
        """
        return self.parts(embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self).loss

    def parts(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> LossParts:
        """What ``forward`` returns, in the form that a criterion with mixing has too. Arguments as of ``forward``."""
        loss = self.clean(self.batch(embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self))
        return LossParts(loss, loss.detach(), None)

    def batch(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> Batch:
        """Anchors, examples and their relations, as ``clean`` and ``Metrix`` use them."""
        return candidates_from_examples(
            embeddings, labels, indices_tuple, ref_emb, ref_labels, self.normalize, ref_self
        )

    def clean(self, batch: Batch) -> Tensor:
        """Eq. (7) of a batch, averaged over anchors."""
        return self.combine(self.clean_sums(batch))

    def clean_sums(self, batch: Batch) -> AnchorSums:
        rho = self.formula.rho

        def of_anchors(own: Batch, _: slice) -> Sums:
            return sums_of_anchors(own, lambda s, relations, _: pair_sums(s, relations, rho))

        sums, nonzero = shared_out(batch, of_anchors)
        return counted(batch, "clean", sums, nonzero)

    def combine(self, clean: AnchorSums, mixed: AnchorSums | None = None, strength: float = 0.0) -> Tensor:
        """Eq. (10): from the sums of every anchor to the loss, plus strength times that of the mixed sums."""
        return mean_loss(clean.sums, self.formula, None if mixed is None else mixed.sums, strength)


class ContrastiveLoss(TableLoss):
    """Eq. (1): sum_P -s + sum_N [s - m]_+ (Hadsell et al. 2006).

    Args:
        margin: m.
        aggregate: "sum" is Eq. (1); "mean" divides each of the two sums of an anchor by its number of terms,
            "mean-nonzero" by its number of terms that are not 0.

    Mixed with ``Metrix(..., mixed_margins=...)``, the margin m(y) of a mix is that of its negative term,
    (1 - y) [s - m(y)]_+; the positive term -y s has none.
    """

    def __init__(self, margin: float = 0.5, aggregate: str = "sum", normalize: bool = True) -> None:
        check_choice("aggregate", aggregate, ("sum", "mean", "mean-nonzero"))
        margin = check_number("margin", margin)
        rho = Rho(-1.0, exponential=False), Rho(1.0, -margin, exponential=False, floor=0.0)
        super().__init__(Formula(rho, (Sigma("identity"), Sigma("identity"))), normalize)
        self.aggregate = aggregate

    def combine(self, clean: AnchorSums, mixed: AnchorSums | None = None, strength: float = 0.0) -> Tensor:
        return super().combine(self._aggregated(clean), None if mixed is None else self._aggregated(mixed), strength)

    def _aggregated(self, of: AnchorSums) -> AnchorSums:
        if self.aggregate == "sum":
            return of
        count = of.terms() if self.aggregate == "mean" else of.nonzero
        return replace(of, sums=of.sums / count.clamp(min=1).to(of.sums.dtype))


class LiftedStructureLoss(TableLoss):
    """[log sum_P e^-s + log sum_N e^(s-m)]_+ (Hermans et al. 2017, after Song et al. 2016).

    Mixed with ``Metrix(..., mixed_margins=...)``, the exponents of a mix are m(y) - s and s - m(y). A positive example
    has the margin 0 there, a negative one m.
    """

    def __init__(self, margin: float = 0.5, normalize: bool = True) -> None:
        margin = check_number("margin", margin)
        rho = Rho(-1.0), Rho(1.0, -margin)
        super().__init__(Formula(rho, (Sigma("log"), Sigma("log")), tau="relu"), normalize)


class BinomialDevianceLoss(TableLoss):
    """log(1 + sum_P e^(-b(s-m))) + log(1 + sum_N e^(g(s-m))) (Yi et al. 2014).

    Mixed with ``Metrix(..., mixed_margins=...)``, the exponents of a mix are -b(s-m(y)) and g(s-m(y)): (m, m) changes
    nothing.
    """

    def __init__(self, beta: float = 18.0, gamma: float = 75.0, margin: float = 0.77, normalize: bool = True) -> None:
        beta, gamma, margin = _scales_and_margin(beta, gamma, margin)
        rho = Rho(-beta, beta * margin), Rho(gamma, -gamma * margin)
        super().__init__(Formula(rho, (LOG1P, LOG1P)), normalize)


class MultiSimilarityLoss(TableLoss):
    """Eq. (2): log(1 + sum_P e^(-b(s-m)))/b + log(1 + sum_N e^(g(s-m)))/g (Wang et al. 2019).

    Mixed with ``Metrix(..., mixed_margins=...)``, the exponents of a mix are -b(s-m(y)) and g(s-m(y)): (m, m) changes
    nothing.
    """

    def __init__(self, beta: float = 18.0, gamma: float = 75.0, margin: float = 0.77, normalize: bool = True) -> None:
        beta, gamma, margin = _scales_and_margin(beta, gamma, margin)
        rho = Rho(-beta, beta * margin), Rho(gamma, -gamma * margin)
        super().__init__(Formula(rho, (Sigma("log1p", 1 / beta), Sigma("log1p", 1 / gamma))), normalize)


class NCALoss(TableLoss):
    """-log sum_P e^s + log sum_N e^s (Goldberger et al. 2004), with negatives only in the second sum."""

    def __init__(self, normalize: bool = True) -> None:
        super().__init__(_nca(1.0), normalize)


def _nca(scale: float) -> Formula:
    return Formula((Rho(scale), Rho(scale)), (Sigma("log", -1.0), Sigma("log")), has_margin=False)


class ProxyLoss(TableLoss):
    """A loss with one learnable proxy per class.

    Attributes:
        proxies: [num_classes, embedding_size] parameter, kaiming normal (fan out).
    """

    def __init__(self, formula: Formula, num_classes: int, embedding_size: int, normalize: bool) -> None:
        super().__init__(formula, normalize)
        num_classes = check_whole("num_classes", num_classes)
        embedding_size = check_whole("embedding_size", embedding_size)
        self.proxies = nn.Parameter(torch.empty(num_classes, embedding_size))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def batch(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> Batch:
        if any(given is not None for given in (indices_tuple, ref_emb, ref_labels, ref_self)):
            raise ValueError(
                f"indices_tuple, ref_emb, ref_labels, ref_self: {type(self).__name__} compares examples with its "
                "proxies, it takes none of them"
            )
        return candidates_from_proxies(
            embeddings, labels, self.proxies, self.normalize, proxies_are_anchors=self.anchors == "proxies"
        )


class ProxyAnchorLoss(ProxyLoss):
    """Proxies as anchors, examples as positives and negatives (Kim et al. 2020).

    Labels are 0 to num_classes - 1.

    Args:
        num_classes, embedding_size: shape of the proxies.
        beta, gamma, margin: b, g, m below.
        variant: "paper" is Table 1 with Eq. (10): log(1 + sum_P e^(-b(s-m)))/b + log(1 + sum_N e^(g(s-m)))/g, averaged
            over all proxies. "original" is Kim et al.: e^(g(s+m)) for negatives, no 1/b and 1/g, the positive part
            averaged over the proxies that have positives and the negative part over all proxies. Of mixes each part
            is averaged over the proxies that have terms on that side: with "pos-neg" those that have positives, which
            are few where classes are many.

    Mixed with ``Metrix(..., mixed_margins=...)``, the exponents of a mix are -b(s-m(y)) and g(s-m(y)) in both variants.
    A positive example has the margin m there; a negative one m in "paper" and -m in "original".
    """

    anchors = "proxies"

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        beta: float = 32.0,
        gamma: float = 32.0,
        margin: float = 0.1,
        variant: str = "original",
        normalize: bool = True,
    ) -> None:
        check_choice("variant", variant, ("original", "paper"))
        beta, gamma, margin = _scales_and_margin(beta, gamma, margin)
        if variant == "original":
            formula = Formula((Rho(-beta, beta * margin), Rho(gamma, gamma * margin)), (LOG1P, LOG1P))
        else:
            rho = Rho(-beta, beta * margin), Rho(gamma, -gamma * margin)
            formula = Formula(rho, (Sigma("log1p", 1 / beta), Sigma("log1p", 1 / gamma)))
        super().__init__(formula, num_classes, embedding_size, normalize)
        self.variant = variant

    def combine(self, clean: AnchorSums, mixed: AnchorSums | None = None, strength: float = 0.0) -> Tensor:
        if self.variant == "paper":
            return super().combine(clean, mixed, strength)
        loss = self._original(clean)
        return loss if mixed is None else loss + strength * self._original(mixed)

    def _original(self, of: AnchorSums) -> Tensor:
        positive, negative = (sigma(of.sums[:, k]) for k, sigma in enumerate(self.formula.sigma))
        with_terms = (of.terms() > 0).sum(0).clamp(min=1)
        return positive.sum() / with_terms[0] + (negative.sum() / with_terms[1] if of.mixed else mean(negative))


class ProxyNCALoss(ProxyLoss):
    """-log e^(s(a, p)) + log sum_N e^s with proxies as the positive and the negatives (Movshovitz-Attias et al. 2017).

    Labels are 0 to num_classes - 1.
    """

    candidates = "proxies"

    def __init__(self, num_classes: int, embedding_size: int, normalize: bool = True) -> None:
        super().__init__(_nca(1.0), num_classes, embedding_size, normalize)


class ProxyNCAPlusPlusLoss(ProxyLoss):
    """ProxyNCA with a temperature T: e^(s/T) in both sums (Teh et al. 2020). Labels are 0 to num_classes - 1."""

    candidates = "proxies"

    def __init__(
        self, num_classes: int, embedding_size: int, temperature: float = 1 / 9, normalize: bool = True
    ) -> None:
        temperature = check_number("temperature", temperature, above=0)
        super().__init__(_nca(1 / temperature), num_classes, embedding_size, normalize)


def _scales_and_margin(beta: float, gamma: float, margin: float) -> tuple[float, float, float]:
    """b, g and m of an exponential loss."""
    return check_number("beta", beta, above=0), check_number("gamma", gamma, above=0), check_number("margin", margin)
