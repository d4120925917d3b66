"""What the native CUDA kernels need beside their arguments: workspace, device and current stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import library


def kernel(name: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    return library.kernel(f"cuda_{name}", dtype)


def place(tensor: Tensor) -> tuple[int, int]:
    """The device of a tensor, and the address of its current stream."""
    return tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream


def launch_sums(name: str, similarity: Tensor, problem: Any, *addresses: int) -> None:
    """pair_sums or pair_sums_backward. The workspace is torch's, so that a captured graph keeps it."""
    size = kernel(f"{name}_workspace", similarity.dtype)(problem)
    workspace = torch.empty(size, dtype=torch.uint8, device=similarity.device)
    kernel(name, similarity.dtype)(problem, *addresses, workspace.data_ptr(), *place(similarity))
