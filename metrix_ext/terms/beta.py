"""The quantile function of Beta(alpha, alpha) as a polynomial that every backend evaluates alike.

With ``v = (2u)^(1/alpha)`` the quantile at u <= 1/2 is analytic in v: from I_x(a, a) = x^a (1/(a B) + ...) follows
``v = x * (analytic in x)``. So it is v times a short polynomial, and the upper half follows by symmetry.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import betaincinv

from .checks import check_number

TERMS = 32  # BetaQuantile::kTerms of csrc/math.h
SMALLEST_ALPHA = 0.05  # below it (2^-32)^(1/alpha) leaves the range of a double
LARGEST_ALPHA = 1e6  # from there on lambda is one half within a thousandth


def check_alpha(alpha: float) -> None:
    """Raises TypeError or ValueError unless alpha is a number that quantile_polynomial takes."""
    if not SMALLEST_ALPHA <= check_number("alpha", alpha) <= LARGEST_ALPHA:
        raise ValueError(f"alpha: got {alpha}, expected a number from {SMALLEST_ALPHA} to {LARGEST_ALPHA:g}")


@functools.lru_cache(maxsize=64)
def quantile_polynomial(alpha: float) -> tuple[float, ...]:
    """What csrc/math.h needs to evaluate the quantile: BetaQuantile, flat.

    Returns:
        1 / alpha, then slope and offset of t = slope * v + offset in [-1, 1], then the TERMS coefficients of
        quantile / v in t, lowest power first. Within 2e-15 of the quantile for alpha = 2, 3e-11 up to alpha = 8 and
        4e-8 for any alpha.

    Raises:
        ValueError: alpha is not between 0.05 and 1e6.
    """
    check_alpha(alpha)
    lowest = (2.0**-32) ** (1 / alpha)  # v at the smallest u that 32 random bits give
    t = np.cos(np.pi * (np.arange(TERMS) + 0.5) / TERMS)
    v = lowest + (1 - lowest) * (t + 1) / 2
    values = betaincinv(alpha, alpha, v**alpha / 2) / v
    coefficients = chebyshev.cheb2poly(chebyshev.chebfit(t, values, TERMS - 1))
    slope = 2 / (1 - lowest)
    return (1 / alpha, slope, -1 - slope * lowest, *map(float, coefficients))
