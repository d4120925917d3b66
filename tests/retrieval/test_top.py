"""The k largest entries of rows, of equal ones the first."""

from __future__ import annotations

import pytest
import torch

from metrix_ext.retrieval.top import NARROWEST_GROUP, largest, top


def sort(rows, k):
    return [sorted(range(len(row)), key=lambda j: (-row[j], j))[:k] for row in rows.tolist()]


@pytest.mark.parametrize("levels", [1, 2, 7, 1000, 10**9])
@pytest.mark.parametrize("columns", [1, 2, 31, 64, 700])
def test_top_is_the_beginning_of_the_sorted_row(columns, levels):
    """Also where most entries are equal, and where one is minus infinity, as a query's own."""
    generator = torch.Generator().manual_seed(columns)
    rows = torch.randint(levels, (20, columns), generator=generator).float() / levels
    rows[:, columns // 3] = -torch.inf
    for k in {0, 1, 2, 5, 30, columns - 1, columns}:
        if k <= columns:
            assert top(rows, k).tolist() == sort(rows, k), k


def test_groups_find_the_largest_wherever_they_stand(monkeypatch):
    rows = torch.zeros(703, 703).fill_diagonal_(1.0)  # 703 = 43 groups of 16 and 15 left over
    assert top(rows, 1).flatten().tolist() == list(range(703))
    searched, topk = [], torch.Tensor.topk

    def recorded(entries, *given, **named):
        searched.append(entries.shape)
        return topk(entries, *given, **named)

    monkeypatch.setattr(torch.Tensor, "topk", recorded)
    largest(rows, 2)
    assert searched == [(703, 43), (703, 2 * 16 + 15)]
    searched.clear()
    largest(rows, 703 // NARROWEST_GROUP**2 + 1)
    assert searched == [(703, 703)]
