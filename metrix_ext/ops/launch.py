"""Where a native kernel runs: on the CPU with a number of threads, on CUDA on a device in its current stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import native


def where(on: Tensor) -> Any:
    """The first argument of every kernel: the place that a tensor is at."""
    if on.is_cuda:
        return native.lib().Where(*place(on))
    return native.lib().Where(torch.get_num_threads())


def where_to_work(name: str, dtype: torch.dtype, on: Tensor, args: Any) -> Any:
    """For a kernel that needs memory on CUDA. The memory is torch's, so that a captured graph keeps it.

    Args:
        args: its struct of arguments, from which follows how much it needs.
    """
    if not on.is_cuda:
        return native.lib().Where(torch.get_num_threads())
    size = native.typed(f"{name}_workspace", dtype)(args)
    return native.lib().Where(*place(on), torch.empty(size, dtype=torch.uint8, device=on.device))


def place(tensor: Tensor) -> tuple[int, int]:
    """The CUDA device of a tensor, and the address of its current stream."""
    return tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream
