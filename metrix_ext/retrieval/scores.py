"""What a ranking is worth, query by query.

right: [rows, depth] bool, whether the neighbour at each rank has the class of the query, nearest first.
relevant: [rows] int64, R: how many candidates have the class of the query; depth is at least R.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hit_at_k(right: Tensor, ks: Sequence[int]) -> Tensor:
    """[rows, len(ks)] float64: 1 where one of the first K is right."""
    return torch.stack([right[:, :k].any(1) for k in ks], dim=1).double()


def average_precision_at_r(right: Tensor, relevant: Tensor) -> Tensor:
    """[rows, 1] float64: 1/R sum over ranks i <= R of the precision at i, where rank i is right; 0 where R is 0."""
    counted = _first(right, relevant)
    ranks = torch.arange(1, counted.shape[1] + 1, device=right.device)
    precision = counted.cumsum(1, dtype=torch.float64) / ranks
    return (precision * counted).sum(1, keepdim=True) / relevant.clamp(min=1)[:, None]


def r_precision(right: Tensor, relevant: Tensor) -> Tensor:
    """[rows, 1] float64: the share of right ones among the first R; 0 where R is 0."""
    return _first(right, relevant).sum(1, keepdim=True, dtype=torch.float64) / relevant.clamp(min=1)[:, None]


def _first(right: Tensor, relevant: Tensor) -> Tensor:
    """The right ones among the first R."""
    return right & (torch.arange(right.shape[1], device=right.device) < relevant[:, None])
