"""A data set by name, its classes split into disjoint halves: one to train on, one that training never sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import UserError, printable
from . import sources
from .damage import damaged, present
from .duplicates import duplicates
from .images import Collection, ImageSet
from .partition import Partition, carve, chosen, own
from .registry import DATA_SETS

MOST_NAMED = 100  # of the images that something is wrong with, in the summary


@dataclass
class Halves:
    """train, and the unseen classes: test, whose images search `gallery` or, where that is None, one another.

    validation: classes taken from the training half, to choose a model by; None if there are none.
    The labels of test and gallery are of the same classes.
    """

    train: ImageSet
    test: ImageSet
    gallery: ImageSet | None = None
    validation: ImageSet | None = None
    description: dict[str, Any] = field(default_factory=dict)  # of the data set, for the summary

    def counts(self) -> dict[str, int]:
        """train_images, train_classes, ..., of the parts that there are."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test, "gallery": self.gallery}
        found = {part: images for part, images in parts.items() if images is not None}
        return {
            **{f"{part}_images": len(images) for part, images in found.items()},
            **{f"{part}_classes": len(images.names) for part, images in found.items() if part != "gallery"},
        }

    def __str__(self) -> str:
        return told(self.counts())

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
        total = len(self.test) + (len(self.gallery) if self.gallery is not None else 0)
        count = f"{found['count']} of the {total} images of unseen classes"
        return printable(f"{count} also stand among those trained on, for example {unseen}, which is {seen}")


def told(counts: Mapping[str, int]) -> str:
    """As words: 5864 images of 100 seen and 5924 of 100 unseen classes."""
    text = f"{counts['train_images']} images of {counts['train_classes']} seen"
    if "validation_images" in counts:
        text += f", {counts['validation_images']} of {counts['validation_classes']} validation"
    text += f" and {counts['test_images']}"
    if "gallery_images" in counts:
        text += f" query and {counts['gallery_images']} gallery images"
    return f"{text} of {counts['test_classes']} unseen classes"


def load(
    name: str,
    path: str | None,
    image_size: int,
    split_seed: int = 0,
    *,
    split: str | None = None,
    val_fraction: float = 0.0,
    any_count: bool = False,
    skip_damaged: bool = False,
    workers: int = 0,
) -> Halves:
    """The data set of that name, halved by classes.

    image_size: pixels of a side, of the images that are drawn.
    split: "order", "random" (by split_seed) or the path of a split file (see partition.chosen); None: as the data set
        lists its halves or is used in publications, and "random" for those that nobody has published.
    val_fraction: of the training classes, chosen by split_seed, that become `validation`.
    any_count: a published data set may have another number of images or classes than it is published with.
    skip_damaged: decodes all images, in so many `workers`, and leaves those out that cannot be.

    Raises UserError with one line for whatever is wrong with the data.
    """
    data_set = DATA_SETS[name]
    whole = load_whole(name, path, image_size)
    classes = own(whole, data_set.split, split_seed)
    if data_set.counts and not any_count:
        every = np.ones(len(whole.labels), bool)
        check_counts(f"the data set {name} in {path}", data_set.counts, halve(whole, classes, every).counts())
    if split is not None:
        classes = chosen(whole, split, split_seed)
    classes = carve(classes, val_fraction, split_seed)
    intact = ~damaged(whole, workers) if skip_damaged else present(whole)
    halves = halve(whole, classes, intact)
    require_enough(path, halves)
    halves.description = {
        "name": name,
        "path": path,
        "split": split or ("listed" if whole.halves is not None else data_set.split),
        "split_seed": split_seed,
        "val_fraction": val_fraction,
        **halves.counts(),
        **left_out(whole, ~intact),
        "duplicates": in_both(halves.train, ImageSet(whole, classes.test, intact)),
    }
    return halves


def of_options(options: Mapping[str, Any], workers: int, data: str | None = None) -> Halves:
    """The data set of a run's resolved options. data: where it lies, if not where they say."""
    return load(
        options["dataset"], data or options["data"], options["image_size"], options["split_seed"],
        split=options.get("split"), val_fraction=options.get("val_fraction", 0.0),
        any_count=options.get("any_count", False), skip_damaged=options["skip_damaged"], workers=workers,
    )  # fmt: skip


def load_whole(name: str, path: str | None, image_size: int) -> Collection:
    # Imported by name: no data set needs the packages that only another one reads its files with.
    return import_module(f"{sources.__name__}.{name}").load(path, image_size)


def check_counts(what: str, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    if {part: found.get(part, 0) for part in expected} != expected:
        raise UserError(f"{what} has {told(found)}; expected {told(expected)}: complete it, or go on with --any-count")


def halve(whole: Collection, classes: Partition, intact: np.ndarray) -> Halves:
    """The parts, without the classes that have no intact image left."""

    def part(of: np.ndarray, images: np.ndarray) -> ImageSet:
        return ImageSet(whole, of[np.isin(of, whole.labels[intact])], images & intact)

    every = np.ones(len(whole.labels), bool)
    return Halves(
        train=part(classes.train, every),
        test=part(classes.test, every if whole.gallery is None else ~whole.gallery),
        gallery=None if whole.gallery is None else part(classes.test, whole.gallery),
        validation=part(classes.validation, every) if len(classes.validation) else None,
    )


def require_enough(path: str | None, halves: Halves) -> None:
    """At least 2 classes in each part, and something to find for whoever searches."""
    parts = [part for part in (halves.train, halves.validation, halves.test) if part is not None]
    classes = [len(part.names) for part in parts]
    if min(classes) < 2:
        found = f"{sum(classes)} classes, {halves}"
        raise UserError(f"the data set {path} has {found}: at least 2 classes are needed in each part")
    if not can_find(halves.test, halves.gallery):
        alone = "no query with an image of its class in the gallery"
        other = "no class of 2 images" if halves.gallery is None else alone
        raise UserError(f"the data set {path} has {other} to search among its unseen classes")
    if halves.validation and not can_find(halves.validation, None):
        raise UserError(f"the data set {path} has no class of 2 images to search among its validation classes")


def can_find(queries: ImageSet, gallery: ImageSet | None) -> bool:
    if gallery is None:
        return bool(np.bincount(queries.labels).max() > 1)
    return bool(np.isin(queries.labels, gallery.labels).any())


def left_out(whole: Collection, lost: np.ndarray) -> dict[str, Any]:
    files = [str(whole.images[i]) for i in np.flatnonzero(lost)]
    skipped = {**whole.skipped, **({"damaged": len(files)} if files else {})}
    return {"skipped": skipped, "damaged": files[:MOST_NAMED]}


def in_both(train: ImageSet, unseen: ImageSet) -> dict[str, Any]:
    found = duplicates(train, unseen)
    return {"count": len(found), "images": found[:MOST_NAMED]}
