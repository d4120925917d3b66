"""The anchors of a batch are shared out: each process has the sums of its own, together they are those of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.batch.shares import anchors_shared_out
from tests.support.compare import assert_close
from tests.support.loss_cases import DIM
from tests.support.loss_tests import random_batch

COUNT = 3


@dataclass
class Process:
    """One of several, whose messages never arrive: what it has of the others' rows are zeros."""

    rank: int
    count: int = COUNT
    sizes: list[Sequence[int]] = field(default_factory=list)

    def rows(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        assert len(x) == sizes[self.rank]
        self.sizes.append(sizes)
        before, after = sum(sizes[: self.rank]), sum(sizes[self.rank + 1 :])
        return torch.cat((x.new_zeros(before, x.shape[1]), x, x.new_zeros(after, x.shape[1])))


@pytest.mark.parametrize("pairs", [None, "pos-neg", "anc-neg"])
@pytest.mark.parametrize("n", [11, 2, 0])
def test_each_has_about_as_many_anchors(n: int, pairs: str | None) -> None:
    loss = mx.losses.ContrastiveLoss(margin=0.1)  # a plain sum over anchors: what is not there adds nothing
    criterion = loss if pairs is None else mx.Metrix(loss, mix="embed", pairs=pairs)
    x, labels = random_batch(n, DIM, 3)
    seeded = {} if pairs is None else {"seed": 4}
    values = []
    for rank in range(COUNT):
        process = Process(rank)
        with anchors_shared_out(process):
            values.append(criterion(x, labels, **seeded))
        assert all(sum(sizes) == n and max(sizes) - min(sizes) <= 1 for sizes in process.sizes)
        assert len(process.sizes) == 1  # one message
    assert_close([sum(values)], [criterion(x, labels, **seeded)], rtol=1e-10)


def test_it_ends_with_the_block() -> None:
    x, labels = random_batch(6, DIM, 3)
    process = Process(1)
    with pytest.raises(ValueError, match="labels"), anchors_shared_out(process):
        mx.losses.ContrastiveLoss()(x, labels[:-1])
    mx.losses.ContrastiveLoss()(x, labels)
    assert not process.sizes
