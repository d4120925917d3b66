"""The losses as the tests build them, and small batches whose labels bite."""

from typing import NamedTuple

import torch
from torch import Tensor

from tests.support.loop_oracle import Loss


class Case(NamedTuple):
    """A loss as the tests build it: the class's name, its arguments, and the same loss for the oracle."""

    cls: str
    arguments: dict[str, float | str]
    loss: Loss

    @property
    def has_proxies(self) -> bool:
        return self.loss.name in ("pa", "proxynca", "proxynca++")


def case(cls: str, name: str, arguments: dict[str, float | str] | None = None, **expected: float | str) -> Case:
    """`arguments` go to the class; `expected` are the defaults that the class should have."""
    return Case(cls, arguments or {}, Loss(name, **{**expected, **(arguments or {})}))  # type: ignore[arg-type]


# The defaults of every class, spelled out, and then values away from them.
CASES = {
    "contrastive": case("ContrastiveLoss", "contrastive", margin=0.5, aggregate="sum"),
    "contrastive-mean": case("ContrastiveLoss", "contrastive", {"aggregate": "mean", "margin": 0.1}),
    "contrastive-nonzero": case("ContrastiveLoss", "contrastive", {"aggregate": "mean-nonzero", "margin": 0.1}),
    "lifted": case("LiftedStructureLoss", "lifted", margin=0.5),
    "binomial": case("BinomialDevianceLoss", "binomial", beta=18.0, gamma=75.0, margin=0.77),
    "ms": case("MultiSimilarityLoss", "ms", beta=18.0, gamma=75.0, margin=0.77),
    "pa": case("ProxyAnchorLoss", "pa", beta=32.0, gamma=32.0, margin=0.1, variant="original"),
    "pa-paper": case("ProxyAnchorLoss", "pa", {"variant": "paper"}, beta=32.0, gamma=32.0, margin=0.1),
    "nca": case("NCALoss", "nca"),
    "proxynca": case("ProxyNCALoss", "proxynca"),
    "proxynca++": case("ProxyNCAPlusPlusLoss", "proxynca++", temperature=1 / 9),
}
OTHER_PARAMETERS = {
    "contrastive-2": case("ContrastiveLoss", "contrastive", {"margin": -0.2}),
    "lifted-2": case("LiftedStructureLoss", "lifted", {"margin": -0.4}),
    "binomial-2": case("BinomialDevianceLoss", "binomial", {"beta": 2.0, "gamma": 5.0, "margin": 0.3}),
    "ms-2": case("MultiSimilarityLoss", "ms", {"beta": 2.0, "gamma": 10.0, "margin": 0.1}),
    "pa-2": case("ProxyAnchorLoss", "pa", {"beta": 4.0, "gamma": 8.0, "margin": 0.3, "variant": "original"}),
    "pa-paper-2": case("ProxyAnchorLoss", "pa", {"beta": 4.0, "gamma": 8.0, "margin": 0.3, "variant": "paper"}),
    "proxynca++-2": case("ProxyNCAPlusPlusLoss", "proxynca++", {"temperature": 0.7}),
}

# Labels that bite; all within five classes, so that every loss can take them.
NUM_CLASSES = 5
LAYOUTS = {
    "none": [],
    "one": [3],
    "two alike": [1, 1],
    "two unlike": [4, 0],
    "three": [2, 0, 2],
    "one class": [2] * 5,
    "singletons": [3, 0, 4, 1, 2],
    "pairs": [0, 1, 2, 0, 1, 2],
    "ragged": [1, 3, 1, 0, 1, 4, 3, 1],
}


DIM = 6
Tensors = list[Tensor]


def batch(layout: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings that cluster a little, so that no loss is saturated, and their labels."""
    labels = torch.tensor(LAYOUTS[layout], dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(NUM_CLASSES, DIM, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), DIM, generator=generator, dtype=torch.float64)
    return centres[labels] + noise, labels


def some_triplets(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A third of all triplets, and a few of them twice."""
    y = labels.tolist()
    n = range(len(y))
    triplets = torch.tensor([(a, p, k) for a in n for p in n for k in n if a != p and y[a] == y[p] != y[k]])
    order = torch.randperm(len(triplets), generator=torch.Generator().manual_seed(0))
    kept = triplets[order[: len(triplets) // 3]]
    a, p, k = torch.cat([kept, kept[:5]]).unbind(1)
    return a, p, k


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def largest_exponent(loss: Loss, x: Tensor) -> float:
    """Of e^(...) in a loss without normalising: the size of what is added and subtracted there."""
    return max(loss.beta, loss.gamma, 1.0 / loss.temperature) * float((x @ x.T).abs().max())
