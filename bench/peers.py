"""The ways to compute the mixed loss of multi-similarity that are compared with each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.relations import Relations


@dataclass(frozen=True)
class Case:
    """A batch of n examples, k of each class, embeddings of size d."""

    n: int
    k: int
    d: int = 512
    pairs: str = "pos-neg"
    renormalize: bool = True

    def inputs(self, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings, labels, lambda."""
        index = torch.arange(self.n)
        lam = reference.pair_lambda(self.n, index, index)
        return self.embeddings(device, dtype), self.labels(device), lam.to(device, dtype)

    def embeddings(self, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(self.n)
        return torch.randn(self.n, self.d, generator=generator, dtype=torch.float64).to(device, dtype)

    def labels(self, device: str) -> Tensor:
        return torch.arange(self.n, device=device) // self.k


Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours(case: Case) -> Step:
    """metrix_ext, with lambda drawn in each call as in training."""
    criterion = _criterion(case)

    def step(embeddings: Tensor, labels: Tensor, _lam: Tensor) -> Tensor:
        return criterion.mixed_loss(embeddings, labels, case.pairs, seed=case.n)

    return step


def literal(case: Case) -> Step:
    """Eq. (9) to the letter: every mixed embedding of every anchor."""
    loss = mx.losses.MultiSimilarityLoss()

    def step(embeddings: Tensor, labels: Tensor, lam: Tensor) -> Tensor:
        return reference.mixed_loss(loss, embeddings, labels, case.pairs, lam, renormalize=case.renormalize)

    return step


def gram(case: Case) -> Step:
    """The reduction over the Gram matrix in PyTorch, with all m n^2 terms in memory."""
    loss = mx.losses.MultiSimilarityLoss()

    def step(embeddings: Tensor, labels: Tensor, lam: Tensor) -> Tensor:
        x = F.normalize(embeddings)
        similarity = x @ x.T
        itself = torch.arange(len(x), device=x.device)
        relations = Relations.from_labels(labels, labels, itself)
        gram_matrix = similarity if case.renormalize else None
        sums, nonzero = reference.pair_sums(similarity, relations, loss.formula.rho, case.pairs, lam, gram_matrix)
        return loss.combine(sums, lambda: sums, nonzero)

    return step


def gram_compiled(case: Case) -> Step:
    """The same under torch.compile."""
    return torch.compile(gram(case), fullgraph=True)


PEERS: dict[str, Callable[[Case], Step]] = {
    "metrix_ext": ours,
    "literal": literal,
    "gram": gram,
    "gram-compiled": gram_compiled,
}


def _criterion(case: Case) -> mx.Metrix:
    loss = mx.losses.MultiSimilarityLoss()
    return mx.Metrix(loss, mix="embed", pairs=case.pairs, renormalize=case.renormalize)
