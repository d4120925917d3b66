"""Table 1 as data: rho, sigma and tau of a loss in Eq. (3).

l(a) = tau( sigma+( sum_U y rho+(s(a,x)) ) + sigma-( sum_U (1-y) rho-(s(a,x)) ) )
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from .pair_sets import labels_of_sides


@dataclass(frozen=True)
class Rho:
    """rho of one side: ``exp(scale * s + shift)``, or ``max(scale * s + shift, floor)`` if not exponential.

    Attributes:
        margin_range: how much larger the margin is at label 1 than at label 0: of an example or mix with label y, rho
            is read at ``s - margin_range * y``.
    """

    scale: float
    shift: float = 0.0
    exponential: bool = True
    floor: float = -math.inf
    margin_range: float = 0.0

    def at_label(self, y: float) -> Rho:
        """rho of terms that all have this label: its margin is a part of the shift."""
        if self.margin_range == 0.0:
            return self
        return replace(self, shift=self.shift - self.scale * self.margin_range * y, margin_range=0.0)

    def with_margins(self, positive: float, negative: float) -> Rho:
        """The same with margins by label, in place of its own: ``positive`` at label 1 and ``negative`` at label 0.

        A linear rho without a floor stays as it is: there a margin would be a constant.
        """
        if not self.exponential and self.floor == -math.inf:
            return self
        return replace(self, shift=-self.scale * negative, margin_range=positive - negative)

    def argument(self, s: Tensor, y: Tensor) -> Tensor:
        """What rho is of: similarities of examples or mixes with labels y, less the margins that come with these."""
        return s if self.margin_range == 0.0 else s - self.margin_range * y

    def exponent(self, s: Tensor) -> Tensor:
        """log rho(s) of an exponential rho; the value before the floor of a linear one."""
        return self.scale * s + self.shift

    def __call__(self, s: Tensor) -> Tensor:
        t = self.exponent(s)
        if self.exponential:
            return t.exp()
        return t * (t > 0) if self.floor == 0.0 else t  # relu would make 0 of a NaN from above


def flat(rho: tuple[Rho, Rho], pairs: str) -> tuple[bool, list[float]]:
    """Both sides as the ops take them: exponential, and scale, shift, floor, margin_range of the positive and of the
    negative.

    margin_range is 0 unless labels of the set of pairs differ from mix to mix.
    """
    labels = labels_of_sides(pairs)
    if labels is not None:
        rho = rho[0].at_label(labels[0]), rho[1].at_label(labels[1])
    if rho[0].exponential and rho[0].margin_range != rho[1].margin_range:
        raise ValueError("rho: both sides of an exponential rho must have the same margin_range")
    numbers = ((side.scale, side.shift, side.floor, side.margin_range) for side in rho)
    return rho[0].exponential, [number for side in numbers for number in side]


def nan_if_not_finite(x: Tensor) -> Tensor:
    """x, with NaN in place of infinities; where it is NaN, so is its gradient."""
    return x * (1 + 0 * x.detach())


@dataclass(frozen=True)
class Sigma:
    """sigma of one side. Sums of exponentials arrive as logarithms L = log sum.

    ``identity``: the sum itself (linear rho only); ``log``: scale * L; ``log1p``: scale * log(1 + e^L).
    """

    kind: Literal["identity", "log", "log1p"]
    scale: float = 1.0

    def __call__(self, sums: Tensor) -> Tensor:
        if self.kind == "log1p":
            # Above the threshold softplus is the identity, wrong by e^-40: nothing in double precision.
            sums = F.softplus(sums, threshold=40.0)
        return self.scale * sums


@dataclass(frozen=True)
class Formula:
    """One row of Table 1.

    Attributes:
        has_margin: whether its similarities are compared with a margin.
    """

    rho: tuple[Rho, Rho]
    sigma: tuple[Sigma, Sigma]
    tau: Literal["identity", "relu"] = "identity"
    has_margin: bool = True

    def __post_init__(self) -> None:
        if self.rho[0].exponential != self.rho[1].exponential or self.sigma[0].kind != self.sigma[1].kind:
            raise ValueError("formula: both sides must have the same kind of rho and of sigma")
        for rho, sigma in zip(self.rho, self.sigma, strict=True):
            if rho.exponential == (sigma.kind == "identity"):
                raise ValueError(f"formula: sigma {sigma.kind!r} does not go with {rho}")

    @property
    def exponential(self) -> bool:
        return self.rho[0].exponential

    def with_margins(self, margins: tuple[float, float] | None) -> Formula:
        """With rho+(s - m(y)) and rho-(s - m(y)), where m(y) goes from the second margin at label 0 to the first at
        label 1, in place of its own margin; without margins as it is.

        Raises:
            ValueError: it has no margin.
        """
        if margins is None:
            return self
        if not self.has_margin:
            raise ValueError(f"mixed_margins: got {margins}, expected None with a loss that has no margin")
        return replace(self, rho=(self.rho[0].with_margins(*margins), self.rho[1].with_margins(*margins)))

    def per_anchor(self, sums: Tensor) -> Tensor:
        """l(a) of every anchor.

        Args:
            sums: [m, 2], the positive and the negative sum; logarithms if the rho are exponential.

        Returns:
            [m]. An anchor with an undefined logarithm (a set is empty) has loss 0 and no gradient. One whose loss is
            not finite has NaN for both.
        """
        if self.sigma[0].kind != "log":
            return self._tau(self.sigma[0](sums[:, 0]) + self.sigma[1](sums[:, 1]))
        empty = sums == -math.inf
        sums = sums.masked_fill(empty, 0.0)
        total = self._tau(self.sigma[0](sums[:, 0]) + self.sigma[1](sums[:, 1]))
        return total.masked_fill(empty.any(1), 0.0)

    def _tau(self, x: Tensor) -> Tensor:
        return nan_if_not_finite(x.relu() if self.tau == "relu" else x)


@dataclass(frozen=True)
class AnchorSums:
    """The two sums of every anchor, of Eq. (7) or Eq. (9).

    Attributes:
        sums: [m, 2], the positive and the negative one; logarithms if the formula is exponential.
        terms: gives [m, 2], how many terms each has.
        nonzero: [m, 2], how many of them are not 0; only if the formula is linear.
        mixed: whether they are of Eq. (9).
    """

    sums: Tensor
    terms: Callable[[], Tensor]
    nonzero: Tensor
    mixed: bool = False

    def detach(self) -> AnchorSums:
        """The same without a gradient."""
        return replace(self, sums=self.sums.detach())


class TableRow(Protocol):
    """What the definitions read of a loss of Table 1: its formula, and what is compared with what.

    Attributes:
        anchors, candidates: "examples" or "proxies".
        normalize: whether embeddings and proxies are l2-normalised.
        proxies: [classes, d], of a loss that has some.
    """

    anchors: str
    candidates: str
    formula: Formula
    normalize: bool
    proxies: Tensor

    def combine(self, clean: AnchorSums, mixed: AnchorSums | None = None, strength: float = 0.0) -> Tensor:
        """From the sums of every anchor to the loss."""


def mean(values: Tensor) -> Tensor:
    """The mean, and a differentiable 0 of no values."""
    return values.sum() / max(1, values.shape[0])
