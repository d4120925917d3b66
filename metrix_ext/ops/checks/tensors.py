"""What is checked of a tensor in every op: its shape, type and device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EXACT = (torch.float32, torch.float64)
FLOATING = (torch.float16, torch.bfloat16, *EXACT)
STRIDED = torch.strided  # the attribute of a module takes as long as the check


def check_floating(name: str, tensor: Tensor) -> None:
    check_is_tensor(name, tensor)
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name}: got {tensor.dtype}, expected float16, bfloat16, float32 or float64")


def check_matrix(name: str, tensor: Tensor) -> None:
    """[n, d] of what is computed with."""
    if type(tensor) is not Tensor or tensor.layout is not STRIDED:
        check_is_tensor(name, tensor)
    if tensor.dtype not in EXACT:
        raise TypeError(f"{name}: got {tensor.dtype}, expected float32 or float64")
    if tensor.dim() != 2:
        raise ValueError(f"{name}: got {list(tensor.shape)}, expected [n, d]")


def check_tensor(
    name: str,
    tensor: Tensor | None,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device,
    as_what: str,
) -> None:
    """A dtype of None is any; ``as_what`` is the argument whose device is wanted."""
    if type(tensor) is not Tensor or tensor.layout is not STRIDED:
        check_is_tensor(name, tensor)
    assert tensor is not None
    if tensor.shape != shape or (dtype is not None and tensor.dtype != dtype):
        got, expected = ("", "") if dtype is None else (f"{tensor.dtype} ", f"{dtype} ")
        raise ValueError(f"{name}: got {got}{list(tensor.shape)}, expected {expected}{list(shape)}")
    if tensor.device != device:
        check_device(name, tensor, device, as_what)


def check_device(name: str, tensor: Tensor, device: torch.device, as_what: str) -> None:
    if tensor.device != device:
        raise ValueError(f"{name}: is on {tensor.device}, expected {device} as {as_what}")


def check_is_tensor(name: str, tensor: Any) -> None:
    """A plain layout, too: others have no address of their elements."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: got {type(tensor).__name__}, expected a tensor")
    if tensor.layout is not STRIDED:
        raise TypeError(f"{name}: got a tensor of layout {tensor.layout}, expected a dense one")


def check_contiguous(name: str, tensor: Tensor) -> None:
    """Of what a kernel adds to, which cannot be copied."""
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: got strides {tensor.stride()}, expected a contiguous tensor")
