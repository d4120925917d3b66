"""In which type embeddings are compared, and how many at a time."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**24  # entries of a chunk of similarities
PER_NEIGHBOUR = 16  # entries that a neighbour takes beside them: indices, values, copies in order, scores


def chunk_size(candidates: int, neighbours: int = 0) -> int:
    """Queries at a time, each of which finds so many neighbours."""
    return max(1, BLOCK // (candidates + PER_NEIGHBOUR * neighbours))


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
