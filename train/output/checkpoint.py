"""The checkpoint of a run. Loads with torch.load(path, weights_only=True)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..files import load_tensors, replacing
from ..training.learner import Learner


def save(path: Path, learner: Learner, config: dict[str, Any]) -> None:
    """`config`: the resolved options of the run."""
    state = {
        "model": learner.model.state_dict(),
        "criterion": learner.criterion.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "epoch": learner.epoch,
        "config": config,
    }
    with replacing(path) as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    return load_tensors(path, "a checkpoint")
