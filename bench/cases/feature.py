"""Feature mixup through a head that pools the average and the maximum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

import metrix_ext as mx

from .. import counts
from ..peers import literal, materialised, ours
from ..problems.problem import Problem, Step, training_step
from ..report.rows import Row
from ..runner import Runner

LITERAL_UP_TO = 128  # examples


@dataclass(frozen=True)
class Feature(Problem):
    """n examples, k of each class, with feature maps [c, side, side] and embeddings of size d.

    Gradients of the feature maps and of the head's weight are checked; embeddings of the clean batch are constants.
    """

    n: int
    k: int
    c: int = 2048
    side: int = 7
    d: int = 512
    pairs: str = "pos-neg"

    peers = ("metrix_ext", "reference", "materialised", "materialised-compiled")
    # A maximum over positions may pass from one to another in float32, and its gradient with it.
    tolerance = 1e-3

    def columns(self) -> dict[str, object]:
        columns = {name: value for name, value in asdict(self).items() if name != "side"}
        return columns | {"lam": "per pair", "detail": f"{self.side} x {self.side} positions, avg+max"}

    def tiny(self) -> Feature:
        return replace(self, n=2 * self.k, c=8, d=8)

    def counts(self) -> counts.Parts:
        return counts.feature(self.n, self.k, self.c, self.side**2, self.d, self.pairs, "float32")

    def inputs(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, mx.heads.PoolingHead]:
        """Feature maps, embeddings, labels, head."""
        generator = torch.Generator().manual_seed(self.n)
        shape = (self.n, self.c, self.side, self.side)
        # As after the last ReLU: not negative, and many positions alike.
        features = torch.randn(shape, generator=generator).relu_().to(device, dtype)
        head = mx.heads.PoolingHead(self.c, self.d, pool="avg+max")
        with torch.no_grad():
            head.linear.weight.copy_(torch.randn(self.d, self.c, generator=generator) / self.c**0.5)
        head = head.to(device, dtype)
        with torch.no_grad():
            embeddings = head(features)
        return features.requires_grad_(), embeddings, torch.arange(self.n, device=device) // self.k, head

    def step(self, peer: str, device: torch.device) -> Step:
        features, embeddings, labels, head = self.inputs(device, torch.float32)
        build: Callable[..., Callable[[Tensor], Tensor]] = {
            "metrix_ext": ours.feature,
            "reference": literal.feature,
            "materialised": materialised.feature,
            "materialised-compiled": materialised.compiled,
        }[peer]
        loss = build(self, embeddings, labels, head)
        leaves = [features, *head.parameters()]
        return training_step(lambda: loss(features), leaves, [features, head.linear.weight])

    @property
    def exact(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("reference", "metrix_ext") if self.n <= LITERAL_UP_TO else ("metrix_ext",)

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        features, embeddings, labels, head = self.inputs(device, torch.float64)
        value = torch.zeros((), dtype=torch.float64, device=device)
        if by == "reference":
            # One anchor at a time: what all of them mix does not fit.
            losses = (literal.feature_of_anchor(self, a, embeddings, labels, head) for a in range(self.n))
        else:
            losses = iter([ours.feature(self, embeddings, labels, head)])
        for loss in losses:
            part = loss(features)
            part.backward()
            value += part.detach()
        gradients = [features.grad, head.linear.weight.grad]
        return [value, *(gradient for gradient in gradients if gradient is not None)]


def problems(quick: bool) -> list[Feature]:
    return [Feature(24, 3, c=128, d=64)] if quick else [Feature(100, 5)]


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    for problem in problems(quick):
        yield from runner.compare("feature", problem)
