"""Lists of mixes to test mix_pool and anchor_sums with: feature maps, anchors, labels, lambda."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metrix_ext.ops.arguments import AnchorSumsArguments
from metrix_ext.terms.formula import Rho, flat
from metrix_ext.terms.mixes import Mixes, all_pairs
from metrix_ext.terms.relations import Relations
from tests.support.problems import rho_of

CLASS_SIZES = {
    "one": (1,),
    "two": (2,),
    "singletons": (1, 1, 1, 1),
    "ragged": (1, 3, 2, 5),
    "pairs": (2, 2, 2),
    "tiles": (5, 5, 5, 5, 5, 5),
}

WHO = ("examples", "proxies", "shuffled", "mask")
POOL_LAYOUTS = ("contiguous", "channels_last", "strided")
# Examples, channels, height, width: nothing to mix, one pair, one position, tails of vectors, whole groups of pairs.
POOL_SHAPES = ((0, 3, 1, 1), (1, 5, 2, 2), (2, 5, 1, 1), (5, 1, 1, 7), (9, 16, 3, 1), (11, 37, 3, 2), (21, 70, 7, 7))


def random_mixes(examples: int, ordered: bool, dtype: torch.dtype, seed: int = 0, shuffle: bool = False) -> Mixes:
    """All pairs, tile by tile or in a random order with some left out and some twice."""
    generator = torch.Generator().manual_seed(seed)
    first, second = all_pairs(examples, ordered, torch.device("cpu"))
    if shuffle and len(first):
        chosen = torch.randint(len(first), (len(first),), generator=generator)
        first, second = first[chosen], second[chosen]
    lam = torch.rand(len(first), generator=generator, dtype=torch.float64)
    lam[: len(lam) // 8] = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64).repeat(len(lam))[: len(lam) // 8]
    return Mixes.of(first, second, lam.to(dtype), examples)


def feature_maps(examples: int, channels: int, height: int, width: int, layout: str, seed: int = 0) -> Tensor:
    """float64 features after a ReLU: half of them are 0, so that maxima are tied."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, channels, height, width, generator=generator, dtype=torch.float64).relu()
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "strided":
        return torch.cat((x, x), 3)[..., :width] if width else x
    return x


def relations(sizes: tuple[int, ...], who: str) -> tuple[Relations, int, int]:
    """Relations, number of anchors and of examples; ``who`` is examples, proxies, shuffled or mask."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    n = len(labels)
    if who == "proxies":
        classes = torch.arange(len(sizes) + 1)
        return Relations.from_labels(classes, labels, torch.full_like(classes, -1)), len(classes), n
    if who == "shuffled":
        generator = torch.Generator().manual_seed(n)
        anchor_labels = torch.randint(len(sizes) + 1, (n + 3,), generator=generator)
        return Relations.from_labels(anchor_labels, labels, torch.full((n + 3,), -1)), n + 3, n
    own = Relations.from_labels(labels, labels, torch.arange(n))
    if who == "mask":
        generator = torch.Generator().manual_seed(n)
        own = own.keep_pairs(torch.randint(-1, 2, (n, n), generator=generator, dtype=torch.int8))
    return own, n, n


def sums_problem(
    pairs: str = "pos-neg",
    rho: str = "exp",
    sizes: tuple[int, ...] = CLASS_SIZES["ragged"],
    who: str = "examples",
    both_orders: bool = True,
    normalize: bool = True,
    shuffle: bool = False,
    dim: int = 19,
) -> dict[str, Any]:
    """Arguments of anchor_sums, in float64."""
    related, anchor_count, examples = relations(sizes, who)
    mixes = random_mixes(examples, not both_orders, torch.float64, shuffle=shuffle)
    generator = torch.Generator().manual_seed(11)
    mixed = torch.randn(len(mixes), dim, generator=generator, dtype=torch.float64)
    anchors = F.normalize(torch.randn(anchor_count, dim, generator=generator, dtype=torch.float64))
    return {
        "mixed": mixed if normalize else F.normalize(mixed),
        "anchors": anchors,
        "relations": related,
        "rho": rho_of(rho),
        "pairs": pairs,
        "mixes": mixes,
        "both_orders": both_orders,
        "normalize": normalize,
    }


def flat_arguments(
    relations: Relations, rho: tuple[Rho, Rho], pairs: str, mixes: Mixes, both_orders: bool, normalize: bool
) -> tuple:
    """What follows mixed and anchors in the arguments of the registered ops of anchor_sums."""
    nothing, numbers = torch.empty(0), flat(rho, pairs)
    arguments = AnchorSumsArguments.of(nothing, nothing, relations, mixes, pairs, both_orders, normalize, *numbers)
    return arguments[2:]


def pool_problem(
    shape: tuple[int, int, int, int], layout: str = "contiguous", ordered: bool = False, shuffle: bool = False
) -> dict[str, Any]:
    """Arguments of mix_pool, in float64."""
    generator = torch.Generator().manual_seed(7)
    return {
        "features": feature_maps(*shape, layout),
        "order": torch.randperm(shape[0], generator=generator),
        "mixes": random_mixes(shape[0], ordered, torch.float64, shuffle=shuffle),
        "averages": torch.randn(shape[:2], generator=generator, dtype=torch.float64),
    }
