"""Image files, a folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import UserError
from ..images import Collection
from .paths import existing

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"))


def load(path: str | None, _image_size: int) -> Collection:
    """One folder per class, in the order of their sorted names; the images may lie at any depth in it."""
    root = existing(path)
    if not root.is_dir():
        raise UserError(f"{path} is no folder: give one that holds a folder of images per class")
    files: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if found:
            files += found
            labels += [len(names)] * len(found)
            names.append(folder.name)
    if not files:
        raise UserError(f"{path} holds no folder with images: expected a folder per class")
    return Collection(files, np.array(labels), names)
