"""What is checked of a tensor in every op: its shape, type and device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_floating(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name}: got {tensor.dtype}, expected float16, bfloat16, float32 or float64")


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
    """A dtype of None is any."""
    if tuple(tensor.shape) == shape and dtype in (None, tensor.dtype):
        return
    got, expected = ("", "") if dtype is None else (f"{tensor.dtype} ", f"{dtype} ")
    raise ValueError(f"{name}: got {got}{list(tensor.shape)}, expected {expected}{list(shape)}")


def check_device(name: str, tensor: Tensor, device: torch.device, as_what: str) -> None:
    if tensor.device != device:
        raise ValueError(f"{name}: is on {tensor.device}, expected {device} as {as_what}")


def check_tensors(
    expected: Mapping[str, tuple[Tensor | None, tuple[int, ...], torch.dtype]], device: torch.device, as_what: str
) -> None:
    """Tensors by name with the shape and type that each is to have, and the device of all; None is not looked at."""
    for name, (tensor, shape, dtype) in expected.items():
        if tensor is not None:
            check_tensor(name, tensor, shape, dtype)
            check_device(name, tensor, device, as_what)
