"""The arguments of the small ops of a batch: class_order, unit_rows and mean_loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ...terms.checks import check_number
from .tensors import EXACT, check_is_tensor, check_matrix, check_tensor


def check_class_order(labels: Tensor) -> None:
    check_is_tensor("labels", labels)
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ValueError(f"labels: got {labels.dtype} {list(labels.shape)}, expected torch.int64 [n]")


def check_unit_rows(x: Tensor, order: Tensor) -> None:
    check_matrix("x", x)
    check_tensor("order", order, (x.shape[0],), torch.int64, x.device, "x")


def check_mean_loss(sums: Tensor, mixed: Tensor | None, strength: float) -> float:
    """strength as a float."""
    check_is_tensor("sums", sums)
    if sums.dtype not in EXACT or sums.dim() != 2 or sums.shape[1] != 2:
        raise ValueError(f"sums: got {sums.dtype} {list(sums.shape)}, expected float32 or float64 [m, 2]")
    if mixed is not None:
        check_tensor("mixed", mixed, sums.shape, sums.dtype, sums.device, "sums")
    return strength if type(strength) is float else check_number("strength", strength)
