"""Recall@K of a test set among itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..peers import brute_force, ours, pml
from ..problems.problem import Step
from ..problems.retrieval import RetrievalSet
from ..report.rows import Row
from ..runner import Runner

PEERS: dict[str, Callable[[RetrievalSet, Tensor, Tensor], Callable[[], list[float]]]] = {
    "metrix_ext": ours.recall,
    "torch": brute_force.recall,
    "pml": pml.recall,
}


class Recall(RetrievalSet):
    """Recall@K for every K that is asked for."""

    peers = tuple(PEERS)
    exact = ("brute force",)
    tolerance = 1e-3  # neighbours that float32 takes for equally similar

    def step(self, peer: str, device: torch.device) -> Step:
        measure = PEERS[peer](self, *self.inputs(device, torch.float32))
        last: list[Tensor] = []

        def forward() -> None:
            last[:] = [torch.tensor(measure())]

        return Step({"forward": forward}, lambda: last)

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        return [torch.tensor(brute_force.recall(self, *self.inputs(torch.device("cpu"), torch.float64))())]


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    for problem in [Recall(1024, 5)] if quick else [Recall(12_000, 5), Recall(12_000, 5, ks=(1, 10, 100))]:
        yield from runner.compare("recall", problem)
