"""What is checked of a tensor in every op: its shape, type and device."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_floating(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name}: got {tensor.dtype}, expected float16, bfloat16, float32 or float64")


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None, device: torch.device, as_what: str
) -> None:
    """A dtype of None is any; ``as_what`` is the argument whose device is wanted."""
    if tensor.shape != shape or (dtype is not None and tensor.dtype != dtype):
        got, expected = ("", "") if dtype is None else (f"{tensor.dtype} ", f"{dtype} ")
        raise ValueError(f"{name}: got {got}{list(tensor.shape)}, expected {expected}{list(shape)}")
    if tensor.device != device:
        check_device(name, tensor, device, as_what)


def check_device(name: str, tensor: Tensor, device: torch.device, as_what: str) -> None:
    if tensor.device != device:
        raise ValueError(f"{name}: is on {tensor.device}, expected {device} as {as_what}")
