"""A test set whose examples are searched for among each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from .. import counts
from .problem import Problem


@dataclass(frozen=True)
class RetrievalSet(Problem):
    """n examples, k of each class around a centre, embeddings of size d; Recall@K for every K of ks."""

    n: int
    k: int
    d: int = 512
    ks: tuple[int, ...] = (1,)

    def columns(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name != "ks"} | {
            "detail": "K = " + " ".join(map(str, self.ks))
        }

    def tiny(self) -> RetrievalSet:
        return replace(self, n=max(4 * self.k, 2 * max(self.ks)), d=8)

    def counts(self) -> counts.Parts:
        return counts.recall(self.n, self.d)

    def inputs(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Embeddings [n, d], not normalised, and labels [n]."""
        generator = torch.Generator().manual_seed(self.n)
        labels = torch.arange(self.n) // self.k
        centres = torch.randn(int(labels[-1]) + 1, self.d, generator=generator)
        noise = torch.randn(self.n, self.d, generator=generator)
        return (centres[labels] + 3 * noise).to(device, dtype), labels.to(device)
