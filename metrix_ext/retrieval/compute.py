"""In which type embeddings are compared, and how many at a time."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**24  # entries of a chunk of similarities


def chunk_size(candidates: int) -> int:
    """Queries at a time."""
    return max(1, BLOCK // candidates)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
