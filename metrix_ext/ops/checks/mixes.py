"""The arguments of the ops over a list of mixes, mix_pool and anchor_sums."""

from __future__ import annotations

import torch
from torch import Tensor

from ...terms.mixes import Mixes
from ...terms.pair_sets import check_pairs
from ...terms.relations import Relations
from ..maps import MOST_POSITIONS, compute_dtype
from .tensors import check_floating, check_is_tensor, check_tensor

Expected = dict[str, tuple[Tensor | None, tuple[int, ...], torch.dtype]]
OPTIONAL = ("averages", "bias", "mask", "relations.mask")


def check_mix_pool(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None) -> None:
    check_maps(features)
    n, c, _, _ = features.shape
    wanted = compute_dtype(features)
    _check_counts(mixes)
    expected: Expected = {
        "order": (order, (n,), torch.int64),
        **_of_list(mixes, n, wanted),
        "averages": (averages, (n, c), wanted),
    }
    check_all(expected, features.device, "features")


def check_anchor_sums(mixed: Tensor, anchors: Tensor, relations: Relations, pairs: str, mixes: Mixes) -> None:
    check_floating("mixed", mixed)
    check_pairs(pairs)
    check_is_tensor("anchors", anchors)
    if anchors.dim() != 2:
        raise ValueError(f"anchors: got {list(anchors.shape)}, expected [m, d]")
    m, d = anchors.shape
    wanted = compute_dtype(mixed)
    _check_counts(mixes)
    expected: Expected = {
        "mixed": (mixed, (len(mixes), d), mixed.dtype),
        "anchors": (anchors, (m, d), wanted),
        "relations.positives": (relations.positives, (m, 2), torch.int64),
        "relations.self_index": (relations.self_index, (m,), torch.int64),
        "relations.mask": (relations.mask, (m, mixes.examples), torch.int8),
        **_of_list(mixes, mixes.examples, wanted),
    }
    check_all(expected, mixed.device, "mixed")


def check_maps(features: Tensor) -> None:
    check_floating("features", features)
    if features.dim() != 4:
        raise ValueError(f"features: got {list(features.shape)}, expected [n, c, h, w]")
    h, w = features.shape[2:]
    if not 1 <= h * w <= MOST_POSITIONS:
        raise ValueError(f"features: got {h} x {w} positions, expected 1 to {MOST_POSITIONS}")


def _check_counts(mixes: Mixes) -> None:
    """Of the tensors whose lengths are the number of mixes and of examples."""
    for name, tensor in (("mixes.first", mixes.first), ("mixes.begin", mixes.begin)):
        check_is_tensor(name, tensor)
        if tensor.dim() != 1 or (tensor is mixes.begin and len(tensor) == 0):
            expected = "[examples + 1]" if tensor is mixes.begin else "[number of mixes]"
            raise ValueError(f"{name}: got {list(tensor.shape)}, expected {expected}")


def _of_list(mixes: Mixes, examples: int, dtype: torch.dtype) -> Expected:
    return {
        "mixes.first": (mixes.first, (len(mixes),), torch.int64),
        "mixes.second": (mixes.second, (len(mixes),), torch.int64),
        "mixes.lam": (mixes.lam, (len(mixes),), dtype),
        "mixes.begin": (mixes.begin, (examples + 1,), torch.int64),
        "mixes.uses": (mixes.uses, (2 * len(mixes),), torch.int64),
    }


def check_all(expected: Expected, device: torch.device, as_what: str) -> None:
    for name, (tensor, shape, dtype) in expected.items():
        if tensor is not None or name not in OPTIONAL:
            check_tensor(name, tensor, shape, dtype, device, as_what)
