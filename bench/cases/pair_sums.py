"""The clean loss and embedding mixup: forward and backward of multi-similarity on embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from metrix_ext import native
from metrix_ext.terms.pair_sets import PAIR_SETS

from .. import counts
from ..peers import gathered, gram, keops, literal, ours, pml
from ..peers.compiled import compiled
from ..problems.embeddings import EmbeddingBatch
from ..problems.problem import ON_GPU, Step, training_step
from ..report.rows import Row
from ..runner import Runner
from ..timing.isolate import Unavailable

LITERAL_UP_TO = 1024  # examples
LITERAL_BYTES = 2 * 2**30  # of mixed embeddings, which are kept a few times

PEERS: dict[str, Callable[[EmbeddingBatch, Tensor], Callable[[Tensor], Tensor]]] = {
    "metrix_ext": ours.pair_sums,
    "metrix_ext-graph": ours.pair_sums,
    "metrix_ext-triton": ours.pair_sums,
    "reference": literal.pair_sums,
    "gram": gram.pair_sums,
    "gram-compiled": compiled(gram.pair_sums),
    "gathered": gathered.pair_sums,
    "gathered-compiled": compiled(gathered.pair_sums),
    "keops": keops.pair_sums,
    "pml": pml.pair_sums,
}


class PairSums(EmbeddingBatch):
    """The loss of a batch and the gradient of its embeddings."""

    peers = tuple(PEERS)
    tolerance = 1e-4  # relative l2 of a float32 gradient of gamma = 75 against float64

    @property
    def exact(self) -> tuple[str, ...]:  # type: ignore[override]
        """The reference loops over anchors and keeps what it mixes: it is tried where it may fit."""
        mixes = 0 if self.pairs == "clean" else max(counts.terms(self.n, self.k, self.pairs))
        fits = self.n <= LITERAL_UP_TO and 8 * self.d * mixes <= LITERAL_BYTES
        return ("reference", "metrix_ext") if fits else ("metrix_ext",)

    def step(self, peer: str, device: torch.device) -> Step:
        if peer in ON_GPU and device.type != "cuda":
            raise Unavailable("for a GPU")
        x, labels = self.embeddings(device, torch.float32), self.labels(device)
        loss = PEERS[peer](self, labels)
        if peer == "metrix_ext-graph":
            return ours.in_a_graph(lambda: loss(x), [x])
        step = training_step(lambda: loss(x), [x], [x])
        return ours.with_backend(step, "triton") if peer == "metrix_ext-triton" else step

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        if by == "metrix_ext" and native.failure() is None:
            device = torch.device("cpu")
        x, labels = self.embeddings(device, torch.float64), self.labels(device)
        loss = literal.pair_sums(self, labels, torch.float64) if by == "reference" else ours.pair_sums(self, labels)
        step = training_step(lambda: loss(x), [x], [x])
        for part in step.parts.values():
            part()
        return step.result()


def problems(quick: bool) -> list[PairSums]:
    sets = ("clean", *PAIR_SETS)
    if quick:
        return [*(PairSums(64, 4, 128, pairs) for pairs in sets), PairSums(128, 8)]
    return [
        *(PairSums(100, 5, pairs=pairs) for pairs in sets),
        *(PairSums(256, 8, pairs=pairs) for pairs in ("clean", "pos-neg", "anc-neg")),
        PairSums(256, 8, pairs="pos-neg", lam=0.3),  # what KeOps can express
        PairSums(256, 8, pairs="anc-neg", lam=0.3),
        PairSums(1024, 8, pairs="clean"),
        PairSums(1024, 8, pairs="pos-neg"),
    ]


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    for problem in problems(quick):
        yield from runner.compare("pair-sums", problem)
