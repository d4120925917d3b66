"""The figures of the runs, a line for each, and the workers that add them."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, one_line
from ..files import reading
from .setting import Setting

RESULTS = "results.jsonl"

Row = dict[str, Any]  # of a setting and of what trial.run returns, with "key"


def rows(folders: Sequence[Path]) -> list[Row]:
    """Of all folders, each setting once. A last line that was cut off is left out."""
    found: dict[str, Row] = {}
    for folder in folders:
        path = folder / RESULTS
        if not path.exists():
            raise UserError(f"{folder} holds no {RESULTS}: give the --out of a study")
        with reading(path, "results of a study"):
            for row in _lines(path):
                found[row["key"]] = row
    return list(found.values())


def _lines(path: Path) -> Iterator[Row]:
    for line in path.read_text("utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the machine went off while it was written
            continue


def add(folder: Path, row: Row) -> None:
    """One write, alone: lines of several processes never mix, nor with one that was cut off."""
    line = (json.dumps(row) + "\n").encode()
    with open(folder / RESULTS, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        os.fsync(file.fileno())


def compute(settings: Sequence[Setting], folder: Path, cache: Path, workers: int) -> Iterator[str]:
    """Runs those that the folder does not hold yet, some at a time on a core each; a line about each as it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {row["key"] for row in _lines(folder / RESULTS)} if (folder / RESULTS).exists() else set()
    open_ones = [(setting, folder, cache) for setting in settings if setting.key not in done]
    yield f"{len(settings)} settings, {len(settings) - len(open_ones)} of them done"
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=torch.set_num_threads, initargs=(1,), maxtasksperchild=200) as pool:
        for number, told in enumerate(pool.imap_unordered(_one, open_ones), start=1):
            yield f"{number}/{len(open_ones)}  {told}"


def _one(job: tuple[Setting, Path, Path]) -> str:
    from . import trial

    setting, folder, cache = job
    try:
        figures = trial.run(setting, cache)
    except Exception as error:  # one setting that cannot run must not end the others
        add(folder, {**setting.plain(), "key": setting.key, "error": one_line(error)})
        return f"{setting.key} failed: {traceback.format_exc().splitlines()[-1]}"
    add(folder, {**setting.plain(), "key": setting.key, **figures})
    return f"{setting.key}  {setting.loss} {setting.mix}  R@1 {figures['test']:.1f}  {figures['seconds']:.0f} s"
