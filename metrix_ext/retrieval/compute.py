"""In which type and precision embeddings are compared, and how many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

BLOCK = 2**24  # entries of a chunk of similarities
PER_NEIGHBOUR = 16  # entries that a neighbour takes beside them: indices, values, copies in order, scores


def chunk_size(candidates: int, neighbours: int = 0) -> int:
    """Queries at a time, each of which finds so many neighbours."""
    return max(1, BLOCK // (candidates + PER_NEIGHBOUR * neighbours))


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no reduced-precision fp32 matrix products inside."""
    # Read one by one: torch.get_float32_matmul_precision() raises once a user has set one of these.
    units = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [unit.fp32_precision for unit in units]
    try:
        for unit in units:
            unit.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for unit, precision in zip(units, before, strict=True):
            unit.fp32_precision = precision
