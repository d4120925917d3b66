"""A data set by name, its classes split into disjoint halves: one to train on, one that training never sees."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import UserError, printable
from . import sources
from .damage import without_damaged
from .duplicates import duplicates
from .images import Collection, ImageSet

MOST_NAMED = 100  # of the images that something is wrong with, in the summary


@dataclass
class Halves:
    train: ImageSet
    test: ImageSet
    description: dict[str, Any]  # of the data set, for the summary

    def __str__(self) -> str:
        seen, unseen = (f"{len(half)} images of {len(half.names)}" for half in (self.train, self.test))
        return f"{seen} seen and {unseen} unseen classes"

    def skipped(self) -> str:
        """What was left out of the data set; "" if nothing was."""
        counts = self.description["skipped"]
        return "skipped " + ", ".join(f"{n} {reason}" for reason, n in counts.items()) if counts else ""

    def warning(self) -> str:
        """What makes the measured recall doubtful; "" if nothing does."""
        found = self.description["duplicates"]
        if not found["count"]:
            return ""
        seen, unseen = found["images"][0]
        count = f"{found['count']} of the {len(self.test)} images of unseen classes"
        return printable(f"{count} also stand among those trained on, for example {unseen}, which is {seen}")


def load(
    name: str, path: str | None, image_size: int, split_seed: int, skip_damaged: bool = False, workers: int = 0
) -> Halves:
    """The classes are split by a permutation that follows from the seed."""
    whole, damaged = load_whole(name, path, image_size), []
    if skip_damaged:
        whole, damaged = without_damaged(whole, workers)
    count = len(whole.names)
    if count < 4:
        raise UserError(f"the data set {path} has {count} classes; at least 4 are needed, 2 in each half")
    order = np.random.default_rng(split_seed).permutation(count)
    train, test = ImageSet(whole, order[: count // 2]), ImageSet(whole, order[count // 2 :])
    if np.bincount(test.labels).max() < 2:
        raise UserError(f"the data set {path} has no class of 2 images to search among its unseen classes")
    description = describe(name, path, split_seed, train, test)
    skipped = {**whole.skipped, **({"damaged": len(damaged)} if damaged else {})}
    wrong = {"skipped": skipped, "damaged": [str(file) for file in damaged[:MOST_NAMED]]}
    return Halves(train, test, {**description, **wrong, "duplicates": in_both(train, test)})


def load_whole(name: str, path: str | None, image_size: int) -> Collection:
    # Imported by name: no data set needs the packages that only another one reads its files with.
    return import_module(f"{sources.__name__}.{name}").load(path, image_size)


def in_both(train: ImageSet, test: ImageSet) -> dict[str, Any]:
    found = duplicates(train, test)
    return {"count": len(found), "images": found[:MOST_NAMED]}


def describe(name: str, path: str | None, split_seed: int, train: ImageSet, test: ImageSet) -> dict[str, Any]:
    return {
        "name": name,
        "path": path,
        "split_seed": split_seed,
        "train_images": len(train),
        "train_classes": len(train.names),
        "test_images": len(test),
        "test_classes": len(test.names),
    }
