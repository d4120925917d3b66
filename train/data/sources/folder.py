"""Image files, a folder per class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..decoding import SUFFIXES, UNREADABLE_SUFFIXES, is_image
from ..images import Collection
from . import csv, tables
from .paths import existing

# Folders that systems and file managers add, some of them with small copies of the images.
OF_A_SYSTEM = frozenset(("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"))

HIDDEN = "hidden or of a system"
BROKEN = "broken or looping links"
LINKED = "links to folders"
SPECIAL = "pipes, sockets or devices"
UNDECODED = "of a format that Pillow cannot read here"
NO_IMAGE = "no images"
NAMED_AS_IMAGE = "folders with the name of an image"
NO_CLASS = "outside the classes' folders"
EMPTY = "classes without images"


def load(path: str | None, image_size: int) -> Collection:
    """One folder per class, in the order of their sorted names, the images at any depth; or a table as of csv.py."""
    root = existing(path)
    if root.suffix.lower() in tables.SUFFIXES and not root.is_dir():
        return csv.load(path, image_size)
    if not root.is_dir():
        raise UserError(f"{path} is no folder: give one that holds a folder of images per class, or a table")
    files: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    skipped: Counter[str] = Counter()
    for folder in classes(root, skipped):
        found = sorted(images(folder, skipped))
        files += found
        labels += [len(names)] * len(found)
        names += [folder.name] if found else []
        skipped[EMPTY] += not found
    if not files:
        raise UserError(f"{path} holds no folder with images: expected a folder per class")
    return Collection(files, np.array(labels), names, skipped={reason: n for reason, n in skipped.items() if n})


def classes(root: Path, skipped: Counter[str]) -> list[Path]:
    """The folders of the classes; one may be a link, but not to what holds the data set."""
    found = []
    for entry in entries(root):
        if reason := not_a_class(entry, root.resolve()):
            skipped[reason] += 1
        else:
            found.append(Path(entry))
    return sorted(found)


def not_a_class(entry: os.DirEntry[str], root: Path) -> str:
    """Why it is no folder of a class; "" if it is one."""
    if is_hidden(entry):
        return HIDDEN
    if is_broken(entry):
        return BROKEN
    if not entry.is_dir():
        return NO_CLASS
    return BROKEN if entry.is_symlink() and root.is_relative_to(os.path.realpath(entry)) else ""


def images(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """The image files at any depth. Links to folders are not followed, so none is seen twice."""
    for entry in entries(folder):
        if reason := not_an_image(entry):
            skipped[reason] += 1
        elif entry.is_dir():
            yield from images(Path(entry), skipped)
        else:
            yield Path(entry)


def not_an_image(entry: os.DirEntry[str]) -> str:
    """Why it is no image and no folder to look into; "" if it is one of them."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if is_hidden(entry):
        return HIDDEN
    if is_broken(entry):
        return BROKEN
    if entry.is_dir():
        return LINKED if entry.is_symlink() else NAMED_AS_IMAGE if suffix in SUFFIXES else ""
    if not entry.is_file():
        return SPECIAL
    if suffix in UNREADABLE_SUFFIXES:
        return UNDECODED
    return "" if suffix in SUFFIXES or (not suffix and is_image(Path(entry))) else NO_IMAGE


def entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}): change its rights or remove it") from None


def is_hidden(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(".") or entry.name in OF_A_SYSTEM or entry.name.lower() in ("thumbs.db", "desktop.ini")


def is_broken(entry: os.DirEntry[str]) -> bool:
    try:
        entry.stat()
    except OSError:
        return True
    return False
