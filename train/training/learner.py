"""What a checkpoint holds: the network, its loss and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from ..model.network import EmbeddingModel


@dataclass
class Learner:
    model: EmbeddingModel
    loss: nn.Module  # clean
    criterion: nn.Module  # `loss` itself, or the mixup around it
    optimizer: Optimizer
    epoch: int = 0  # finished ones

    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for module in (self.model, self.criterion) for p in module.parameters())
