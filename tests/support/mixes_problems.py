"""Lists of mixes to test mix_pool and anchor_sums with: feature maps, anchors, labels, lambda; and how to compare."""

from __future__ import annotations

import torch
from torch import Tensor

from metrix_ext.ops.arguments import AnchorSumsArguments
from metrix_ext.terms.formula import Rho, flat
from metrix_ext.terms.mixes import Mixes, all_pairs
from metrix_ext.terms.relations import Relations

CLASS_SIZES = {
    "one": (1,),
    "two": (2,),
    "singletons": (1, 1, 1, 1),
    "ragged": (1, 3, 2, 5),
    "pairs": (2, 2, 2),
    "tiles": (5, 5, 5, 5, 5, 5),
}


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


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The l2 norm of the difference relative to that of what is expected; infinities are the same ones."""
    assert torch.equal(actual.isinf(), expected.isinf())
    finite = ~expected.isinf()
    difference = actual.to(expected.dtype)[finite] - expected[finite]
    return float(difference.norm() / (1e-30 + expected[finite].norm()))


def assert_no_worse(actual: list[Tensor], exact: list[Tensor], naive: list[Tensor], floor: float) -> None:
    """Of float32 results: no less accurate than those of the plain formula in float32, but for a few roundings."""
    for a, e, n in zip(actual, exact, naive, strict=True):
        assert a.dtype == torch.float32
        assert relative_error(a, e) <= relative_error(n, e) + floor


def flat_arguments(
    relations: Relations, rho: tuple[Rho, Rho], pairs: str, mixes: Mixes, both_orders: bool, normalize: bool
) -> tuple:
    """What follows mixed and anchors in the arguments of the registered ops of anchor_sums."""
    nothing = torch.empty(0)
    arguments = AnchorSumsArguments.of(nothing, nothing, relations, mixes, pairs, both_orders, normalize, *flat(rho))
    return arguments[2:]
