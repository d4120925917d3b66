"""How many terms are too small to change their sum: the most that skipping them could save.

python -m bench.negligible

pos-neg of multi-similarity, renormalised, for classes from untrained to well separated. A term is negligible if all
such terms of its sum together are below half a unit in the last place of the sum in float32. That is judged by the
final sum, which a kernel does not know while it adds: no test of its own could skip more. A kernel evaluates the
terms of neighbouring columns at once, 16 in a vector or 32 in a warp, and saves an exponential only where all of them
are negligible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops import pair_lambda
from metrix_ext.terms.formula import Rho

N, PER_CLASS, SIZE = 512, 32, 512
COSINES = (0.0, 0.3, 0.6, 0.9)  # of two examples of one class, on average
TOGETHER = (1, 16, 32)
SIDES = ("positive", "negative")


def embeddings(cosine: float, n: int = N, per_class: int = PER_CLASS, size: int = SIZE) -> Tensor:
    """[n, size] of unit norm, class by class; examples of different classes are orthogonal on average."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(n // per_class, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, size, generator=generator, dtype=torch.float64)
    return F.normalize(math.sqrt(cosine) * centres.repeat_interleave(per_class, 0) + math.sqrt(1 - cosine) * noise)


def log_terms(x: Tensor, lam: Tensor, rho: Rho, weights: Tensor, per_class: int = PER_CLASS) -> Iterator[Tensor]:
    """log2 of the terms of each anchor in one of its sums, [firsts, n]; minus infinity where there is no term."""
    gram = x @ x.T
    norm = (lam.square() + (1 - lam).square() + 2 * lam * (1 - lam) * gram).sqrt()
    for begin in range(0, len(x), per_class):
        own = slice(begin, begin + per_class)
        for anchor in range(begin, begin + per_class):
            s = (lam[own] * gram[anchor, own, None] + (1 - lam[own]) * gram[anchor]) / norm[own]
            terms = rho.exponent(s) / math.log(2) + weights[own].log2()
            terms[:, own] = terms[anchor - begin] = -math.inf
            yield terms


def shares(x: Tensor, lam: Tensor, rho: Rho, weights: Tensor, per_class: int = PER_CLASS) -> dict[int, float]:
    """Of the groups of so many columns of a row, how many have negligible terms alone."""
    groups, negligible = dict.fromkeys(TOGETHER, 0), dict.fromkeys(TOGETHER, 0)
    for terms in log_terms(x, lam, rho, weights, per_class):
        log_sum = float(torch.logsumexp(terms.flatten() * math.log(2), 0)) / math.log(2)
        threshold = log_sum - 25 - math.log2(max(1, int(terms.isfinite().sum())))
        for width in TOGETHER:
            largest = terms.unflatten(1, (-1, width)).amax(2)
            groups[width] += int(largest.isfinite().sum())
            negligible[width] += int((largest.isfinite() & (largest < threshold)).sum())
    return {width: negligible[width] / max(1, groups[width]) for width in TOGETHER}


def main() -> None:
    rho = mx.losses.MultiSimilarityLoss().formula.rho
    index = torch.arange(N)
    per_pair = pair_lambda(0, index, index, 2.0, torch.float64)
    print("| lambda | cosine within a class | side | " + " | ".join(f"{width} together" for width in TOGETHER) + " |")
    print("| --- " * (3 + len(TOGETHER)) + "|")
    for name, lam in (("per pair", per_pair), ("0.5", torch.full_like(per_pair, 0.5))):
        for cosine in COSINES:
            x = embeddings(cosine)
            for side, of_side, weights in zip(SIDES, rho, (lam, 1 - lam), strict=True):
                found = shares(x, lam, of_side, weights)
                cells = " | ".join(f"{100 * found[width]:.1f} %" for width in TOGETHER)
                print(f"| {name} | {cosine} | {side} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
