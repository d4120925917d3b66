"""Table 1 as data: rho, sigma and tau of a loss in Eq. (3).

l(a) = tau( sigma+( sum_U y rho+(s(a,x)) ) + sigma-( sum_U (1-y) rho-(s(a,x)) ) )
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rho:
    """rho of one side: ``exp(scale * s + shift)``, or ``max(scale * s + shift, floor)`` if not exponential."""

    scale: float
    shift: float = 0.0
    exponential: bool = True
    floor: float = -math.inf

    def exponent(self, s: Tensor) -> Tensor:
        """log rho(s) of an exponential rho; the value before the floor of a linear one."""
        return self.scale * s + self.shift

    def __call__(self, s: Tensor) -> Tensor:
        t = self.exponent(s)
        if self.exponential:
            return t.exp()
        return t.relu() if self.floor == 0.0 else t


@dataclass(frozen=True)
class Sigma:
    """sigma of one side. Sums of exponentials arrive as logarithms L = log sum.

    ``identity``: the sum itself (linear rho only); ``log``: scale * L; ``log1p``: scale * log(1 + e^L).
    """

    kind: Literal["identity", "log", "log1p"]
    scale: float = 1.0

    def __call__(self, sums: Tensor) -> Tensor:
        if self.kind == "log1p":
            # logaddexp has the gradient 0 at minus infinity, and no threshold as softplus has.
            sums = torch.logaddexp(sums, torch.zeros_like(sums))
        return self.scale * sums


@dataclass(frozen=True)
class Formula:
    """One row of Table 1."""

    rho: tuple[Rho, Rho]
    sigma: tuple[Sigma, Sigma]
    tau: Literal["identity", "relu"] = "identity"

    def __post_init__(self) -> None:
        if self.rho[0].exponential != self.rho[1].exponential:
            raise ValueError("formula: both rho must be exponential, or neither")
        for rho, sigma in zip(self.rho, self.sigma, strict=True):
            if rho.exponential == (sigma.kind == "identity"):
                raise ValueError(f"formula: sigma {sigma.kind!r} does not go with {rho}")

    @property
    def exponential(self) -> bool:
        return self.rho[0].exponential

    def per_anchor(self, sums: Tensor) -> Tensor:
        """l(a) of every anchor.

        Args:
            sums: [m, 2], the positive and the negative sum; logarithms if the rho are exponential.

        Returns:
            [m]. An anchor with an undefined logarithm (a set is empty) has loss 0 and no gradient.
        """
        sides = []
        defined = torch.ones_like(sums[:, 0], dtype=torch.bool)
        for side, sigma in enumerate(self.sigma):
            column = sums[:, side]
            if sigma.kind == "log":
                empty = column == -math.inf
                defined = defined & ~empty
                column = column.masked_fill(empty, 0.0)
            sides.append(sigma(column))
        total = sides[0] + sides[1]
        if self.tau == "relu":
            total = total.relu()
        return total.masked_fill(~defined, 0.0)
