"""The sets of pairs M(a) to mix, by name."""

from __future__ import annotations

import torch
from torch import Tensor

from .relations import Relations

PAIR_SETS = ("pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos")


def check_pairs(pairs: str) -> None:
    if pairs not in PAIR_SETS:
        raise ValueError(f"pairs: got {pairs!r}, expected one of {', '.join(PAIR_SETS)}")


def with_anchor(pairs: str) -> bool:
    """Whether the first of each pair is the anchor itself."""
    return pairs.startswith("anc-")


def unordered(pairs: str) -> bool:
    """Whether both of a pair come from one set, so that only i < j counts."""
    return pairs in ("pos-pos", "neg-neg")


def labels_of_sides(pairs: str) -> tuple[float, float] | None:
    """The labels of the terms in the positive and in the negative sum, or None where a mix has its lambda; pairs may be
    "clean", or what the op that is called will refuse."""
    if pairs == "clean":
        return 1.0, 0.0
    if pairs in ("pos-pos", "anc-pos"):
        return 1.0, 1.0
    return (0.0, 0.0) if pairs == "neg-neg" else None


def count_terms(pairs: str, relations: Relations, examples: int) -> Tensor:
    """Number of terms in the positive and in the negative sum of every anchor, [m, 2] int64; pairs may be "clean"."""
    positives, negatives = relations.sizes(examples)
    none = torch.zeros_like(positives)
    both = {
        "clean": (positives, negatives),
        "pos-neg": (positives * negatives, positives * negatives),
        "anc-neg": (negatives, negatives),
        "anc-pos": (positives, none),
        "pos-pos": (positives * (positives - 1) // 2, none),
        "neg-neg": (none, negatives * (negatives - 1) // 2),
    }
    return torch.stack(both[pairs], dim=1)
