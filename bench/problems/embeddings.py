"""A batch of embeddings for the clean loss and for embedding mixup."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from metrix_ext.ops import pair_lambda

from .. import counts
from .problem import Problem


@dataclass(frozen=True)
class EmbeddingBatch(Problem):
    """A batch of n examples, k of each class, embeddings of size d.

    Attributes:
        pairs: "clean" or a set of pairs.
        lam: one lambda for all pairs; None draws one per pair.
    """

    n: int
    k: int
    d: int = 512
    pairs: str = "pos-neg"
    lam: float | None = None
    renormalize: bool = True

    def columns(self) -> dict[str, object]:
        lam = "" if self.pairs == "clean" else "per pair" if self.lam is None else self.lam
        renormalize = self.renormalize and self.pairs != "clean"
        return asdict(self) | {"lam": lam, "renormalize": renormalize}

    def tiny(self) -> EmbeddingBatch:
        return replace(self, n=4 * self.k)  # the same d, for which KeOps compiles

    def counts(self) -> counts.Parts:
        return counts.pair_sums(self.n, self.k, self.d, self.pairs)

    def embeddings(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """[n, d], not normalised, the same values on every device."""
        generator = torch.Generator().manual_seed(self.n)
        values = torch.randn(self.n, self.d, generator=generator, dtype=torch.float64)
        return values.to(device, dtype).requires_grad_()

    def labels(self, device: torch.device) -> Tensor:
        """[n], class by class."""
        return torch.arange(self.n, device=device) // self.k

    def given_lambda(self, device: torch.device) -> Tensor:
        """[n, n], for peers that do not draw it in the time that is taken; empty for the clean loss."""
        if self.pairs == "clean":
            return torch.empty(0, device=device)
        if self.lam is not None:
            return torch.full((self.n, self.n), self.lam, device=device)
        index = torch.arange(self.n)
        return pair_lambda(self.n, index, index, 2.0, torch.float32).to(device)
