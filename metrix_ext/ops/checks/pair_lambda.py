"""The arguments of pair_lambda."""

from __future__ import annotations

import torch
from torch import Tensor

from ...terms.beta import check_alpha
from ...terms.checks import check_whole
from .tensors import check_device, check_is_tensor


def check_pair_lambda(seed: int | Tensor, rows: Tensor, columns: Tensor, alpha: float, dtype: torch.dtype) -> None:
    check_alpha(alpha)
    for name, index in (("rows", rows), ("columns", columns)):
        check_is_tensor(name, index)
        if index.dtype != torch.int64 or index.dim() != 1:
            raise ValueError(f"{name}: got {index.dtype} {list(index.shape)}, expected int64 [number of indices]")
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype: got {dtype}, expected torch.float32 or torch.float64")
    if not isinstance(seed, Tensor):
        check_whole("seed", seed, least=-(2**63), expected="a signed 64-bit integer")
    elif seed.dtype != torch.int64 or seed.numel() != 1:
        raise ValueError(f"seed: got {seed.dtype} {list(seed.shape)}, expected int64 with one element")
    else:
        check_device("seed", seed, rows.device, "rows")
    check_device("columns", columns, rows.device, "rows")
