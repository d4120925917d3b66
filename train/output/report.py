"""What a run writes about itself: a line per epoch while it goes, a summary once it has finished."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..files import replacing

METRICS, SUMMARY, CHECKPOINT = "metrics.jsonl", "summary.json", "checkpoint.pt"
RETRIEVAL, CURVES = "retrieval.png", "curves.png"


class RunFolder:
    """The folder of --out. These files of an earlier run are removed: none may be taken for this run's."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (SUMMARY, CHECKPOINT, RETRIEVAL, CURVES):
                (self.path / name).unlink(missing_ok=True)
            (self.path / METRICS).write_text("")
        except OSError as error:
            raise UserError(f"--out {path} cannot be written ({error.strerror}): give another folder") from None
        self.epochs: list[dict[str, Any]] = []

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def add_epoch(self, line: dict[str, Any]) -> None:
        self.epochs.append(line)
        with open(self / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")

    def finish(self, summary: dict[str, Any]) -> None:
        with replacing(self / SUMMARY) as file:
            file.write((json.dumps(summary, indent=2) + "\n").encode())


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("metrix_ext", "torch", "torchvision", "numpy", "matplotlib", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {**found, "cuda": torch.version.cuda}


def per_cent(recall: dict[str, float]) -> str:
    return "  ".join(f"R@{k} {100 * value:.1f}" for k, value in recall.items())
