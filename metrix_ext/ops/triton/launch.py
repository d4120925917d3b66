"""What the launches of all ops share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

# 128 threads a program: a warp has 32 of them on NVIDIA and 64 on AMD. FMA contraction is part of the formulas'
# accuracy, so it does not follow Triton's changing default.
OPTIONS = {"num_warps": 2 if torch.version.hip else 4, "enable_fp_fusion": True}


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Makes the device of a tensor the one that Triton launches on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def has_margins(rho: Sequence[float]) -> bool:
    """Whether a side of rho, as ``terms.formula.flat``, has a margin that follows the label."""
    return rho[3] != 0.0 or rho[7] != 0.0


@functools.lru_cache(maxsize=256)
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers that a kernel reads in double precision, which Triton's float arguments do not have.

    Copied to a device once; as the compilation of a kernel, that has to happen before a CUDA graph is captured.
    """
    return torch.tensor(values, dtype=torch.float64, device=device)
