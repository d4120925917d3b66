"""What a case measures: a problem, a peer's way to do it, and the exact result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..counts import Stage


@dataclass(frozen=True)
class Step:
    """One way to do a problem.

    Attributes:
        parts: what is timed, in order: forward and backward of a training step, one part of anything else.
        result: what the parts have given, to be checked.
        allocates: whether the parts take the memory that they need; a CUDA graph has taken it before.
    """

    parts: Mapping[str, Callable[[], object]]
    result: Callable[[], Sequence[Tensor]]
    allocates: bool = True


ON_GPU = ("metrix_ext-graph", "metrix_ext-triton")  # peers


class Problem(ABC):
    """Shapes and options of a problem, as the fields of a frozen dataclass; inputs are drawn from them.

    Attributes:
        peers: the ways there are to do it; the first is metrix_ext.
        exact: what can compute the exact result, the most trusted first.
        tolerance: the largest relative error of a result that gets a time.
    """

    peers: ClassVar[tuple[str, ...]]
    exact: ClassVar[tuple[str, ...]]
    tolerance: ClassVar[float]

    @abstractmethod
    def step(self, peer: str, device: torch.device) -> Step:
        """Raises Unavailable where the peer cannot do this problem."""

    @abstractmethod
    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        """The result in float64, by one of ``exact``; on the device only where that takes too long on the CPU."""

    @abstractmethod
    def tiny(self) -> Problem:
        """The same in a size that costs nothing, to load libraries with."""

    @abstractmethod
    def counts(self) -> dict[str, list[Stage]]:
        """What each timed part has to do at least."""

    def columns(self) -> dict[str, object]:
        return asdict(self)  # type: ignore[call-overload]

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.columns().items())


def training_step(loss: Callable[[], Tensor], leaves: Sequence[Tensor], gradients: Sequence[Tensor]) -> Step:
    """Forward and backward of a loss.

    Args:
        leaves: everything that backward gives a gradient.
        gradients: those of them whose gradient is checked, next to the loss.
    """
    last: list[Tensor] = []

    def forward() -> None:
        last.clear()
        for leaf in leaves:
            leaf.grad = None
        last.append(loss())

    def backward() -> None:
        last[0].backward()

    def result() -> list[Tensor]:
        return [last[0].detach(), *(leaf.grad for leaf in gradients if leaf.grad is not None)]

    return Step({"forward": forward, "backward": backward}, result)


def error(actual: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest relative error of the results; infinite if one is missing, 0 of two zeros.

    A peer that gives fewer results than there are (a graph has no loss outside) is not one that is right.
    """
    if len(actual) != len(exact):
        return float("inf")
    worst = 0.0
    for a, e in zip(actual, exact, strict=True):
        difference = float((a.detach().cpu().double() - e.cpu().double()).norm())
        scale = float(e.double().norm())
        relative = difference / scale if scale else (0.0 if difference == 0.0 else float("inf"))
        worst = max(worst, relative if relative == relative else float("inf"))
    return worst
