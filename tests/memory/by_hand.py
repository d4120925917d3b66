"""What a memory holds and what a batch is compared with, by lists and loops."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support import loop_oracle
from tests.support.loss_cases import DIM, Case, leaf
from tests.support.loss_tests import random_batch

STRENGTH, LAM, SEED = 0.7, 0.3, 5


class Queue:
    """The latest examples, each in the place of the oldest once there are as many as it takes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: list[Tensor] = []
        self.labels: list[int] = []
        self.next = 0

    def add(self, x: Tensor, labels: Tensor) -> list[int]:
        """Where each has been put."""
        places = []
        for row, label in zip(x.detach(), labels.tolist(), strict=True):
            if len(self.rows) < self.size:
                self.rows.append(row)
                self.labels.append(label)
            else:
                self.rows[self.next], self.labels[self.next] = row, label
            places.append(self.next)
            self.next = (self.next + 1) % self.size
        return places

    def expected(
        self, case: Case, x: Tensor, labels: Tensor, places: list[int], pairs: str | None, proxies: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch that has been put there, clean or with the mixes of a set of pairs."""
        bank, bank_labels = torch.stack(self.rows), torch.tensor(self.labels)
        if case.loss.name == "pa":
            rows = list(self.rows)
            for place, row in zip(places, x, strict=True):
                rows[place] = row
            x, labels, given = torch.stack(rows), bank_labels, {}
        else:
            given = {"ref_emb": bank, "ref_labels": bank_labels, "ref_self": torch.tensor(places, dtype=torch.int64)}
        clean = loop_oracle.clean_loss(case.loss, x, labels, proxies, **given)
        if pairs is None:
            return clean
        return clean + STRENGTH * loop_oracle.mixed_loss(case.loss, x, labels, pairs, LAM, proxies, **given)


def batches(sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    drawn = [random_batch(n, DIM, seed) for seed, n in enumerate(sizes)]
    return [(leaf(x), labels) for x, labels in drawn]
