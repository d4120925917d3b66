"""What a run writes about itself: a line per epoch while it goes, a summary and a page once it has finished."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..files import replacing
from . import html, sections
from .grid import Query
from .similarities import Similarities

METRICS, SUMMARY, CHECKPOINT = "metrics.jsonl", "summary.json", "checkpoint.pt"
RETRIEVAL, CURVES, REPORT = "retrieval.png", "curves.png", "report.html"
LATEST = Path("runs/latest")


class RunFolder:
    """The folder of --out, or runs/latest. A run that it holds is left alone until `start`.

    overwrite: replace that run. Otherwise one in --out is a UserError, and one in runs/latest moves to runs/latest-1.
    """

    def __init__(self, path: str | None, overwrite: bool = False) -> None:
        self.path = Path(path or LATEST)
        self.aside = path is None and not overwrite
        self.epochs: list[dict[str, Any]] = []
        if path and not overwrite and self.holds_run():
            raise UserError(f"--out {path} holds another run: give another folder, or --overwrite to replace that run")

    def holds_run(self) -> bool:
        """Whether there is more than what a run leaves that was refused, an empty list of epochs."""
        names = (SUMMARY, CHECKPOINT, RETRIEVAL, CURVES, REPORT)
        return any(os.path.exists(self / name) for name in names) or has_content(self / METRICS)

    def start(self) -> None:
        """Makes the folder; the files of an earlier run are moved or removed: none may be taken for this run's."""
        try:
            if self.aside and self.holds_run():
                print(f"the run before is now in {move_aside(self.path)}")
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (SUMMARY, CHECKPOINT, RETRIEVAL, CURVES, REPORT):
                (self.path / name).unlink(missing_ok=True)
            (self.path / METRICS).write_text("")
        except OSError as error:
            raise UserError(f"--out {self.path} cannot be written ({error.strerror}): give another folder") from None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def add_epoch(self, line: dict[str, Any]) -> None:
        self.epochs.append(line)
        with open(self / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")

    def finish(self, summary: dict[str, Any]) -> None:
        with replacing(self / SUMMARY) as file:
            file.write((json.dumps(summary, indent=2) + "\n").encode())


def write_report(
    folder: Path,
    *,
    configuration: Mapping[str, Any],
    epochs: Sequence[dict[str, Any]],
    grid: Sequence[Query],
    similarities: Similarities,
    paper_row: sections.PaperRow | None = None,
) -> Path:
    """A page about the run, report.html, that needs no other file and no network.

    Args:
        folder: of the run, where the page is written.
        configuration: the options of the run by name, and whatever else belongs to how it was made; values may be
            mappings themselves.
        epochs: the lines of metrics.jsonl. A line with "epoch": 0 and "recall_at" is the untrained network.
        grid: of :func:`grid.retrieval_grid`.
        similarities: of :func:`similarities.pair_similarities`.
        paper_row: what the paper reports for these options, if it does.

    Returns:
        The path of the page.
    """
    path = folder / REPORT
    content = [
        sections.recall(epochs, paper_row),
        sections.curves(epochs),
        sections.retrieval(grid),
        sections.similarity(similarities),
        sections.every_epoch(epochs),
        sections.options(configuration),
    ]
    with replacing(path) as file:
        file.write(html.page(f"Run {folder.resolve().name}", content).encode())
    return path


def has_content(path: Path) -> bool:
    return os.path.exists(path) and os.path.getsize(path) > 0


def move_aside(path: Path) -> Path:
    """To the first name that is free."""
    target = next(name for n in count(1) if not os.path.lexists(name := path.with_name(f"{path.name}-{n}")))
    return path.rename(target)


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
