"""The arguments of feature_sums."""

from __future__ import annotations

import torch

from ...terms.pair_sets import check_pairs
from ..feature_chunks import FeatureSumsArguments
from ..maps import compute_dtype
from .mixes import Expected, check_all, check_maps
from .tensors import check_is_tensor


def check_feature_sums(a: FeatureSumsArguments) -> None:
    check_maps(a.features)
    check_pairs(a.pairs)
    for name in ("weight", "anchors", "lam"):
        check_is_tensor(name, getattr(a, name))
    if a.weight.dim() != 2 or a.anchors.dim() != 2:
        got = f"{list(a.weight.shape)}, {list(a.anchors.shape)}"
        raise ValueError(f"weight, anchors: got {got}, expected [d, c], [m, d]")
    (n, c), d, m = a.features.shape[:2], a.weight.shape[0], a.anchors.shape[0]
    dtype, exact = a.features.dtype, compute_dtype(a.features)
    expected: Expected = {
        "weight": (a.weight, (d, c), dtype),
        "bias": (a.bias, (d,), dtype),
        "anchors": (a.anchors, (m, d), exact),
        "order": (a.order, (n,), torch.int64),
        "positives": (a.positives, (m, 2), torch.int64),
        "self_index": (a.self_index, (m,), torch.int64),
        "mask": (a.mask, (m, n), torch.int8),
        "lam": (a.lam, (1,) if a.lam.numel() == 1 and a.lam.dim() == 1 else (n, n), exact),
    }
    check_all(expected, a.features.device, "features")
