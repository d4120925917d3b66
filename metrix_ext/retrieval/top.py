"""The k largest similarities of every query."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Columns in a group, of which only the largest is looked at first: narrower groups do not pay.
WIDEST_GROUP, NARROWEST_GROUP = 16, 4


def top(similarity: Tensor, k: int) -> Tensor:
    """Indices of the k largest entries of each row, largest first, of equal ones the lower index first.

    topk alone leaves open which of several equal entries it returns, and in what order.
    """
    rows, columns = similarity.shape
    if k == 0:
        return similarity.new_empty((rows, 0), dtype=torch.int64)
    values, index = largest(similarity, min(k + 1, columns))
    found = index[:, :k]
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]  # topk had a choice: which ones, or in what order
    if len(tied):
        found[tied] = lower_index_first(similarity, tied, values[tied], found[tied])
    return found


def largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """topk(k), in a half to a quarter of its time where k is far below the number of columns.

    Columns are dealt to groups, and only the k groups of the largest maxima are searched. An entry of another group is
    at most as large as any of these k maxima, so that it could only replace an equal one.
    """
    columns = similarity.shape[1]
    width = min(WIDEST_GROUP, math.isqrt(columns // k))
    if width < NARROWEST_GROUP:
        return similarity.topk(k)
    groups = columns // width
    member = groups * torch.arange(width, device=similarity.device)
    left_over = torch.arange(groups * width, columns, device=similarity.device)
    maxima = similarity[:, : groups * width].unflatten(1, (width, groups)).amax(1)
    chosen = (maxima.topk(k, sorted=False).indices[:, None] + member[:, None]).flatten(1)
    searched = torch.cat([chosen, left_over.expand(len(similarity), -1)], dim=1)
    values, place = similarity.gather(1, searched).topk(k)
    return values, searched.gather(1, place)


def lower_index_first(similarity: Tensor, rows: Tensor, values: Tensor, found: Tensor) -> Tensor:
    """Of these rows, which have equal entries, what `top` promises.

    values, found: their largest entries [rows, k or k + 1] and the indices of k of them, some choice of the equal ones.
    """
    k = found.shape[1]
    kept, last = found.sort(dim=1).values, values[:, k - 1]
    if k < values.shape[1] and (undecided := last == values[:, k]).any():
        kept[undecided] = lowest_of_equal(similarity[rows[undecided]], last[undecided, None], k)
    order = similarity[rows[:, None], kept].sort(dim=1, descending=True, stable=True).indices
    return kept.gather(1, order)


def lowest_of_equal(similarity: Tensor, kth: Tensor, k: int) -> Tensor:
    """Indices, ascending, of all entries above the k-th largest of their row and of the first that equal it."""
    above, equal = similarity > kth, similarity == kth
    room = k - above.sum(1, keepdim=True)
    keep = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return keep.nonzero()[:, 1].view(-1, k)
