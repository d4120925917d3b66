"""The checkpoint of a run. Loads with torch.load(path, weights_only=True)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .files import replacing


def save(
    path: Path,
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    config: dict[str, Any],
) -> None:
    """`epoch` is the number of finished ones."""
    state = {
        "model": model.state_dict(),
        "criterion": criterion.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "config": config,
    }
    with replacing(path) as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)
