"""Which pairs of examples are mixed where mixes have to be formed: features and images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .kept import Kept
from .mixes import PairList, all_pairs, is_kept
from .pair_sets import unordered, with_anchor
from .relations import Relations


def used_pairs(
    relations: Relations, pairs: str, one_mix_per_pair: bool, examples: int, size: int
) -> Iterable[PairList]:
    """The pairs (i, j) of examples that some anchor uses, once where one mix serves both orders, in lists of a size.

    On a GPU all pairs where few are left out, since picking synchronises the device.
    """
    device = relations.positives.device
    ordered = not (one_mix_per_pair or unordered(pairs))
    few_left_out = relations.mask is None and pairs in ("pos-neg", "anc-neg", "neg-neg")
    if device.type != "cpu" and few_left_out:
        make = _kept_lists if is_kept(examples, device) else _lists
        return make(examples, ordered, size, device)
    first, second = all_pairs(examples, ordered, device)
    chosen = used_by_anchors(relations, pairs, one_mix_per_pair, examples)[first, second]
    return _split(first[chosen], second[chosen], examples, size)


def _lists(examples: int, ordered: bool, size: int, device: torch.device) -> Iterable[PairList]:
    return _split(*all_pairs(examples, ordered, device), examples, size)


_kept_lists = Kept(lambda *sizes: tuple(_lists(*sizes)), size=2)  # 17 MB each at most


def _split(first: Tensor, second: Tensor, examples: int, size: int) -> Iterable[PairList]:
    """At least one list: also a mixed loss of no pairs is differentiable."""
    for i, j in zip(first.split(size), second.split(size), strict=True):
        yield PairList.of(i, j, examples)


def used_by_anchors(relations: Relations, pairs: str, one_mix_per_pair: bool, examples: int) -> Tensor:
    """[n, n] whether an anchor uses the pair (i, j)."""
    mask = relations.dense(examples)
    if with_anchor(pairs):
        used = torch.zeros(examples, examples, dtype=torch.bool, device=mask.device)
        used[relations.self_index] = mask == (-1 if pairs == "anc-neg" else 1)
    else:
        positive, negative = (mask == 1).float(), (mask == -1).float()
        firsts = negative if pairs == "neg-neg" else positive
        seconds = positive if pairs == "pos-pos" else negative
        used = firsts.T @ seconds > 0
    return used | used.T if one_mix_per_pair or unordered(pairs) else used
