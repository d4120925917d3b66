"""Recall@K of a test set among itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx

from .. import counts
from ..peers import pml
from ..problems.problem import Problem, Step
from ..report.rows import Row
from ..runner import Runner


@dataclass(frozen=True)
class Recall(Problem):
    """n examples, k of each class around a centre, embeddings of size d; Recall@K for every K of ks."""

    n: int
    k: int
    d: int = 512
    ks: tuple[int, ...] = (1,)

    peers = ("metrix_ext", "torch", "pml")
    exact = ("brute force",)
    tolerance = 1e-3  # neighbours that float32 takes for equally similar

    def columns(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name != "ks"} | {
            "detail": "K = " + " ".join(map(str, self.ks))
        }

    def tiny(self) -> Recall:
        return replace(self, n=max(4 * self.k, 2 * max(self.ks)), d=8)

    def counts(self) -> counts.Parts:
        return counts.recall(self.n, self.d)

    def inputs(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.n)
        labels = torch.arange(self.n) // self.k
        centres = torch.randn(int(labels[-1]) + 1, self.d, generator=generator)
        noise = torch.randn(self.n, self.d, generator=generator)
        return (centres[labels] + 3 * noise).to(device, dtype), labels.to(device)

    def step(self, peer: str, device: torch.device) -> Step:
        embeddings, labels = self.inputs(device, torch.float32)
        measure: Callable[[], list[float]] = {
            "metrix_ext": lambda: lambda: list(mx.retrieval.recall_at_k(embeddings, labels, self.ks).values()),
            "torch": lambda: lambda: brute_force(embeddings, labels, self.ks),
            "pml": lambda: pml.recall(self, embeddings, labels),
        }[peer]()
        last: list[Tensor] = []

        def forward() -> None:
            last[:] = [torch.tensor(measure())]

        return Step({"forward": forward}, lambda: last)

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        embeddings, labels = self.inputs(torch.device("cpu"), torch.float64)
        return [torch.tensor(brute_force(embeddings, labels, self.ks))]


def brute_force(embeddings: Tensor, labels: Tensor, ks: tuple[int, ...]) -> list[float]:
    """All similarities at once, then topk."""
    x = F.normalize(embeddings)
    similarity = (x @ x.T).fill_diagonal_(-torch.inf)
    right = labels[similarity.topk(max(ks)).indices] == labels[:, None]
    return [float(right[:, :one].any(1).float().mean()) for one in ks]


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    for problem in [Recall(1024, 5)] if quick else [Recall(12_000, 5), Recall(12_000, 5, ks=(1, 10, 100))]:
        yield from runner.compare("recall", problem)
