"""Calls of the native kernels: on the CPU with a number of threads, on CUDA with a device and its current stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import cuda
from .library import kernel


def launch(name: str, dtype: torch.dtype | None, on: Tensor, *arguments: Any) -> None:
    """Runs a kernel where a tensor is; dtype is what it computes in, None for one that computes with integers."""
    if on.is_cuda:
        cuda.kernel(name, dtype)(*arguments, *cuda.place(on))
    else:
        kernel(name, dtype)(*arguments, torch.get_num_threads())
