"""What a problem has to do at least, however it is done: exponentials, multiply-adds, bytes.

One function per case. A stage is work that overlaps, as a kernel's does: it takes as long as the slowest of its
resources. Stages follow each other, so their floors add up. Counts are those of the fused formulation: mixes come from
inner products, backward computes every term again, a matrix product reads and writes each matrix once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Parts = dict[str, list["Stage"]]


@dataclass(frozen=True)
class Stage:
    """Work that overlaps.

    Attributes:
        flops: 2 per multiply-add, in the matrix product of ``dtype``; an elementwise maximum counts as a multiply-add,
            since it takes an issue slot of the same units.
        bytes: read or written in memory.
    """

    exponentials: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    dtype: str = "float32"

    def floor(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Milliseconds that each resource takes at its limit."""
        return {
            "exp": 1e3 * self.exponentials / limits["exp"],
            "product": 1e3 * self.flops / limits[f"product_{self.dtype}"],
            "bytes": 1e3 * self.bytes / limits["bytes"],
        }


def floor(stages: list[Stage], limits: Mapping[str, float]) -> float:
    """Milliseconds that the stages take at least, one after the other."""
    return sum(max(stage.floor(limits).values()) for stage in stages)


def binding(stages: list[Stage], limits: Mapping[str, float]) -> str:
    """The resource that takes most of the floor."""
    spent = {"exp": 0.0, "product": 0.0, "bytes": 0.0}
    for stage in stages:
        times = stage.floor(limits)
        slowest = max(times, key=lambda name: times[name])
        spent[slowest] += times[slowest]
    return max(spent, key=lambda name: spent[name])


def terms(n: int, k: int, pairs: str) -> tuple[int, int]:
    """Terms of the positive and of the negative sum over all n anchors, k examples per class."""
    positives, negatives = k - 1, n - k
    both = {
        "clean": (positives, negatives),
        "pos-neg": (positives * negatives, positives * negatives),
        "anc-neg": (negatives, negatives),
        "anc-pos": (positives, 0),
        "pos-pos": (positives * (positives - 1) // 2, 0),
        "neg-neg": (0, negatives * (negatives - 1) // 2),
    }[pairs]
    return n * both[0], n * both[1]


def pair_sums(n: int, k: int, d: int, pairs: str) -> Parts:
    """Embedding mixup or the clean loss: one Gram matrix, one exponential per term and side, lambda [n, n] as read."""
    exponentials = float(sum(terms(n, k, pairs)))
    matrix = 4.0 * n * n
    gram, product = _gram(n, d, matrix), Stage(flops=2.0 * n * n * d, bytes=matrix + 8.0 * n * d)
    read = matrix if pairs == "clean" else 2 * matrix
    return {
        "forward": [gram, Stage(exponentials=exponentials, bytes=read)],
        # The gradient of a Gram matrix is one product with its sum with its own transpose.
        "backward": [Stage(exponentials=exponentials, bytes=read + matrix), product],
    }


def _gram(n: int, d: int, written: float) -> Stage:
    """Inner products of n rows with each other, which are symmetric; bytes that are written."""
    return Stage(flops=1.0 * n * (n + 1) * d, bytes=4.0 * n * d + written)


def feature(n: int, k: int, c: int, positions: int, d: int, pairs: str, dtype: str) -> Parts:
    """Feature mixup through avg + max pooling: one mix per unordered pair, an FMA and a maximum per position.

    Forward could keep what backward needs, however much that is: nothing is counted twice but the terms of the sums.
    Backward takes two products per linear layer and inner product.
    """
    mixes = {
        "pos-neg": n * (n - k) / 2,
        "anc-neg": n * (n - k) / 2,
        "anc-pos": n * (k - 1) / 2,
        "pos-pos": n * (k - 1) / 2,
        "neg-neg": n * (n - 1) / 2,
    }[pairs]
    positive, negative = terms(n, k, pairs)
    size = 2.0 if dtype == "bfloat16" else 4.0
    mixing = Stage(flops=4.0 * mixes * c * positions, bytes=size * n * c * positions)
    linear = Stage(flops=2.0 * mixes * c * d, bytes=size * mixes * (c + d), dtype=dtype)
    inner = Stage(flops=2.0 * max(positive, negative) * d)
    sums = Stage(exponentials=float(positive + negative))
    return {
        "forward": [mixing, linear, inner, sums],
        "backward": [linear, linear, inner, inner, sums],
    }


RESNET50_MULTIPLY_ADDS = 4.09e9  # forward, an image of 224 x 224, as torchvision states for its weights


def step(n: int, size: int, dtype: str, mixing: Parts) -> Parts:
    """A training step of ResNet-50 on n images of size x size: two products in backward for each one in forward."""
    forward = Stage(flops=2 * RESNET50_MULTIPLY_ADDS * n * (size / 224) ** 2, dtype=dtype)
    return {
        "forward": [forward, *mixing.get("forward", [])],
        "backward": [forward, forward, *mixing.get("backward", [])],
    }


def recall(n: int, d: int) -> Parts:
    """Every example against every other: their inner products are compared where they arise."""
    return {"forward": [_gram(n, d, 0.0)]}
