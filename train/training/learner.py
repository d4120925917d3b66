"""What learns, and all that a run needs to go on with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..model.network import EmbeddingModel
from .averaging import MovingAverage


@dataclass
class Learner:
    model: EmbeddingModel
    loss: nn.Module  # clean
    criterion: nn.Module  # `loss` itself, or the mixup around it
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None = None  # of the model's weights
    epoch: int = 0  # finished ones
    batch: int = 0  # finished ones of this epoch
    sums: dict[str, float] = field(default_factory=dict)  # of the losses of these batches

    @property
    def evaluated(self) -> EmbeddingModel:
        """The network with the weights that are measured: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for module in (self.model, self.criterion) for p in module.parameters())

    def state(self) -> dict[str, Any]:
        """ "model" is what is measured; with an average the weights that learn are beside it."""
        state = {
            "model": self.evaluated.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums,
        }
        if self.average is not None:
            state |= {"weights": self.model.state_dict(), "averaged": int(self.average.n_averaged)}
        return state

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"] if self.average is None else state["weights"])
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.batch, self.sums = state["epoch"], state["batch"], dict(state["sums"])
        if self.average is not None:
            self.average.module.load_state_dict(state["model"])
            self.average.n_averaged.fill_(state["averaged"])
