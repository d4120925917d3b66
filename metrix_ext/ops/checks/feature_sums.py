"""The arguments of feature_sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...terms.pair_sets import check_pairs
from ..maps import compute_dtype
from .mixes import Expected, check_all, check_maps
from .tensors import check_is_tensor


def check_feature_sums(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    anchors: Tensor,
    order: Tensor,
    positives: Tensor,
    self_index: Tensor,
    mask: Tensor | None,
    lam: Tensor,
    pairs: str,
    *_others: Any,
) -> None:
    """Those of FeatureSumsArguments, in its order."""
    check_maps(features)
    check_pairs(pairs)
    for name, tensor in (("weight", weight), ("anchors", anchors), ("lam", lam)):
        check_is_tensor(name, tensor)
    if weight.dim() != 2 or anchors.dim() != 2:
        got = f"{list(weight.shape)}, {list(anchors.shape)}"
        raise ValueError(f"weight, anchors: got {got}, expected [d, c], [m, d]")
    (n, c), d, m = features.shape[:2], weight.shape[0], anchors.shape[0]
    dtype, exact = features.dtype, compute_dtype(features)
    expected: Expected = {
        "weight": (weight, (d, c), dtype),
        "bias": (bias, (d,), dtype),
        "anchors": (anchors, (m, d), exact),
        "order": (order, (n,), torch.int64),
        "positives": (positives, (m, 2), torch.int64),
        "self_index": (self_index, (m,), torch.int64),
        "mask": (mask, (m, n), torch.int8),
        "lam": (lam, (1,) if lam.dim() == 1 else (n, n), exact),
    }
    check_all(expected, features.device, "features")
