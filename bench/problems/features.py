"""A batch of feature maps for feature mixup through a head that pools the average and the maximum."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from metrix_ext.heads import PoolingHead

from .. import counts
from .problem import Problem


@dataclass(frozen=True)
class FeatureBatch(Problem):
    """n examples, k of each class, with feature maps [c, side, side] and embeddings of size d.

    Gradients of the feature maps and of the head's weight are checked; embeddings of the clean batch are constants.
    """

    n: int
    k: int
    c: int = 2048
    side: int = 7
    d: int = 512
    pairs: str = "pos-neg"

    def columns(self) -> dict[str, object]:
        columns = {name: value for name, value in asdict(self).items() if name != "side"}
        return columns | {"lam": "per pair", "detail": f"{self.side} x {self.side} positions, avg+max"}

    def tiny(self) -> FeatureBatch:
        return replace(self, n=2 * self.k, c=8, d=8)

    def counts(self) -> counts.Parts:
        return counts.feature(self.n, self.k, self.c, self.side**2, self.d, self.pairs, "float32")

    def inputs(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, PoolingHead]:
        """Feature maps [n, c, side, side], embeddings [n, d], labels [n], head."""
        generator = torch.Generator().manual_seed(self.n)
        shape = (self.n, self.c, self.side, self.side)
        # As after the last ReLU: not negative, and many positions alike.
        features = torch.randn(shape, generator=generator).relu_().to(device, dtype)
        head = PoolingHead(self.c, self.d, pool="avg+max")
        with torch.no_grad():
            head.linear.weight.copy_(torch.randn(self.d, self.c, generator=generator) / self.c**0.5)
        head = head.to(device, dtype)
        with torch.no_grad():
            embeddings = head(features)
        return features.requires_grad_(), embeddings, torch.arange(self.n, device=device) // self.k, head
