"""A trained network out of the folder of its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from . import checkpoints
from .data import transforms
from .errors import UserError
from .files import reading
from .model import network
from .output.report import CHECKPOINT

CONFIG, MODEL = "config", "model"  # in a checkpoint


@dataclass(frozen=True)
class Restored:
    """model: in evaluation mode. transform: of a picture to pixels of its size. config: the resolved options of the
    run."""

    model: network.EmbeddingModel
    transform: transforms.Transform
    config: dict[str, Any]
    epoch: int
    device: torch.device
    path: Path  # of the checkpoint

    def input(self, picture: Image.Image) -> Tensor:
        """Of the model, [1, 3, h, w], from a picture."""
        return self.model.statistics.to_input(self.transform(picture)[None], self.device)


def restore(run: Path, device: torch.device) -> Restored:
    """run: the folder of a run, or a checkpoint. No file of first weights is needed, and none is downloaded.

    Raises UserError with one line if there is none, or it does not fit its own configuration.
    """
    path = find(run)
    stored = checkpoints.load(path)
    with reading(path, "a checkpoint"):
        if not {CONFIG, MODEL} <= stored.keys():
            raise ValueError("it holds no model with its configuration")
        config = stored[CONFIG]
        model = network.build(
            config["arch"], "none", config["embedding_size"], config["pool"],
            config["image_size"], config.get("tokens", "map"), config.get("normalize", True),
        )  # fmt: skip
        model.load_state_dict(stored[MODEL])
        transform = transforms.evaluation(config["dataset"], config["image_size"])
    model = model.eval().to(device, memory_format=torch.channels_last)
    return Restored(model, transform, config, stored["epoch"], device, path)


def find(run: Path) -> Path:
    if not run.exists():
        raise UserError(f"{run} does not exist: give the folder of a run, or its {CHECKPOINT}")
    path = run / CHECKPOINT if run.is_dir() else run
    if not path.exists():
        raise UserError(f"{run} holds no {CHECKPOINT}: give the folder of a run")
    return path
