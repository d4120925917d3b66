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

from .. import checkpoints
from ..checkpoints.store import UNFINISHED
from ..errors import UserError
from ..files import replacing
from ..options.config import CONFIG
from ..options.paper import Row
from . import html, sections
from .grid import Query
from .similarities import Similarities

METRICS, SUMMARY, CHECKPOINT = "metrics.jsonl", "summary.json", checkpoints.NEWEST
RETRIEVAL, CURVES, REPORT = "retrieval.png", "curves.png", "report.html"
WRITTEN = (SUMMARY, CHECKPOINT, checkpoints.PREVIOUS, UNFINISHED, CONFIG, RETRIEVAL, CURVES, REPORT)
LATEST = Path("runs/latest")


class RunFolder:
    """The folder of --out, or runs/latest. A run that it holds is left alone until `start`.

    overwrite: replace that run. resume: go on with it. Otherwise one in --out is a UserError, and one in runs/latest
    moves to runs/latest-1. writes: whether this process does; the others of a run do not.
    """

    def __init__(self, path: str | None, overwrite: bool = False, resume: bool = False, writes: bool = True) -> None:
        self.path = Path(path or LATEST)
        self.aside = path is None and not overwrite
        self.resume = resume
        self.writes = writes
        self.epochs: list[dict[str, Any]] = []
        if path and writes and not overwrite and not resume and self.holds_run():
            raise UserError(
                f"--out {path} holds another run: give another folder, --resume to go on with that run, or --overwrite "
                "to replace it"
            )

    def holds_run(self) -> bool:
        """Whether there is more than what a run leaves that was refused: its options and an empty list of epochs."""
        return any(os.path.exists(self / name) for name in WRITTEN if name != CONFIG) or has_content(self / METRICS)

    def start(self) -> None:
        """Makes the folder; the files of an earlier run are moved or removed, unless this run is that one: none may be
        taken for this run's."""
        if not self.writes:
            return
        try:
            if self.aside and self.holds_run():
                print(f"the run before is now in {move_aside(self.path)}")
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.resume:
                for name in WRITTEN:
                    (self.path / name).unlink(missing_ok=True)
                (self.path / METRICS).write_text("")
        except OSError as error:
            raise UserError(f"--out {self.path} cannot be written ({error.strerror}): give another folder") from None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def add_epoch(self, line: dict[str, Any]) -> None:
        self.epochs.append(line)
        if not self.writes:
            return
        with open(self / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")

    def rewrite_epochs(self, lines: list[dict[str, Any]]) -> None:
        """As they were when the checkpoint was written: a line may have come after it, or have been cut off."""
        self.epochs = list(lines)
        if not self.writes:
            return
        with replacing(self / METRICS) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def finish(self, summary: dict[str, Any]) -> None:
        with replacing(self / SUMMARY) as file:
            file.write((json.dumps({**summary, **machine()}, indent=2) + "\n").encode())


def machine() -> dict[str, Any]:
    return {"versions": versions(), "threads": torch.get_num_threads()}


def summary_of(last: dict[str, float], first: dict[str, float], lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall@K of the final model, of the untrained one, and of the epochs that are best by other classes.

    Validation classes, where there are any, choose an epoch as a user can. The best epoch on the test classes is no
    result: nobody could have known it.
    """
    found: dict[str, Any] = {"recall_at": last, "recall_at_start": first}
    measured = [line for line in lines if "recall_at" in line]

    def of_best(by: str) -> dict[str, Any]:
        best = sections.best_by(by, measured)
        return {name: best[name] for name in ("epoch", "validation_recall_at", "recall_at") if name in best}

    if measured:
        if "validation_recall_at" in measured[0]:
            found["best_on_validation"] = of_best("validation_recall_at")
        found["best_on_test"] = of_best("recall_at")
    return found


def write_report(
    folder: Path,
    *,
    configuration: Mapping[str, Any],
    epochs: Sequence[dict[str, Any]],
    grid: Sequence[Query],
    similarities: Similarities,
    paper_row: Row | None = None,
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
