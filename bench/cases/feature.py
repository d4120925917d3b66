"""Feature mixup through a head that pools the average and the maximum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..peers import literal, materialised, ours
from ..peers.compiled import compiled
from ..problems.features import FeatureBatch
from ..problems.problem import Step, training_step
from ..report.rows import Row
from ..runner import Runner

LITERAL_UP_TO = 128  # examples

PEERS: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {
    "metrix_ext": ours.feature,
    "reference": literal.feature,
    "materialised": materialised.feature,
    "materialised-compiled": compiled(materialised.feature),
}


class Feature(FeatureBatch):
    """The mixed loss of a batch and the gradients of its feature maps and of the head's weight."""

    peers = tuple(PEERS)
    # A maximum over positions may pass from one to another in float32, and its gradient with it.
    tolerance = 1e-3

    def step(self, peer: str, device: torch.device) -> Step:
        features, embeddings, labels, head = self.inputs(device, torch.float32)
        loss = PEERS[peer](self, embeddings, labels, head)
        leaves = [features, *head.parameters()]
        return training_step(lambda: loss(features), leaves, [features, head.linear.weight])

    @property
    def exact(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("reference", "metrix_ext") if self.n <= LITERAL_UP_TO else ("metrix_ext",)

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        features, embeddings, labels, head = self.inputs(device, torch.float64)
        value = torch.zeros((), dtype=torch.float64, device=device)
        losses: Iterator[Callable[[Tensor], Tensor]]
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
