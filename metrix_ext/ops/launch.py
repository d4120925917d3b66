"""Calls of the native kernels: on the CPU with a number of threads, on CUDA with a device and its current stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import native


def launch(name: str, dtype: torch.dtype | None, on: Tensor, /, *args: Any, **named: Any) -> None:
    """Runs a kernel where a tensor is.

    Args:
        dtype: what it computes in, None for one that computes with integers.
        args, named: its arguments; tensors are contiguous, or as the kernel's header says.
    """
    kernel = getattr(native.lib(), name) if dtype is None else native.typed(name, dtype)
    kernel(_where(on, None), *args, **named)


def launch_in_workspace(name: str, dtype: torch.dtype, on: Tensor, /, args: Any, **named: Any) -> None:
    """A kernel that needs memory on CUDA. The memory is torch's, so that a captured graph keeps it.

    Args:
        args: its struct of arguments, from which follows how much it needs.
    """
    workspace = None
    if on.is_cuda:
        size = native.typed(f"{name}_workspace", dtype)(args)
        workspace = torch.empty(size, dtype=torch.uint8, device=on.device)
    native.typed(name, dtype)(_where(on, workspace), args, **named)


def place(tensor: Tensor) -> tuple[int, int]:
    """The CUDA device of a tensor, and the address of its current stream."""
    return tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream


def _where(on: Tensor, workspace: Tensor | None) -> Any:
    if on.is_cuda:
        return native.lib().Where(*place(on), workspace)
    return native.lib().Where(torch.get_num_threads())
