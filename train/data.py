"""The data sets by name: images with labels, classes split into disjoint halves for training and testing.

Every loader here returns a Collection of all images; `load` splits its classes by a seeded permutation. To
add a data set, write such a loader and name it in LOADERS.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from . import glyphs
from .errors import UserError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"))


@dataclass
class Collection:
    """All images of a data set: arrays uint8 [h, w] or [h, w, 3], or paths of files."""

    images: Sequence[np.ndarray] | np.ndarray | list[Path]
    labels: np.ndarray
    names: list[str]


class ImageSet(Dataset[tuple[Any, int]]):
    """One half: (transformed image, label), labels 0, 1, ... in the order of the split's classes."""

    def __init__(self, whole: Collection, classes: np.ndarray) -> None:
        renumbered = np.full(len(whole.names), -1)
        renumbered[classes] = np.arange(len(classes))
        self.index = np.flatnonzero(renumbered[whole.labels] >= 0)
        self.images = whole.images
        self.labels = renumbered[whole.labels[self.index]]
        self.names = [whole.names[c] for c in classes]
        self.transform: Callable[[Image.Image], Any] = lambda image: image

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.transform(self.picture(i)), int(self.labels[i])

    def picture(self, i: int) -> Image.Image:
        """The image as it is, RGB."""
        image = self.images[self.index[i]]
        if isinstance(image, np.ndarray):
            return Image.fromarray(image).convert("RGB")
        try:
            with Image.open(image) as file:
                return file.convert("RGB")
        except OSError as error:
            raise UserError(f"{image} cannot be read as an image ({error}): repair or remove it") from None


@dataclass
class Halves:
    train: ImageSet
    test: ImageSet
    description: dict[str, Any]


def load(name: str, path: str | None, image_size: int, split_seed: int) -> Halves:
    whole = LOADERS[name](path, image_size)
    count = len(whole.names)
    if count < 4:
        raise UserError(f"the data set {path} has {count} classes; at least 4 are needed, 2 in each half")
    order = np.random.default_rng(split_seed).permutation(count)
    train, test = ImageSet(whole, order[: count // 2]), ImageSet(whole, order[count // 2 :])
    if np.bincount(test.labels).max() < 2:
        raise UserError(f"the data set {path} has no class of 2 images to search among its unseen classes")
    description = {
        "name": name,
        "path": path,
        "split_seed": split_seed,
        "train_images": len(train),
        "train_classes": len(train.names),
        "test_images": len(test),
        "test_classes": len(test.names),
    }
    return Halves(train, test, description)


def load_glyphs(_path: str | None, image_size: int) -> Collection:
    x, code_points = glyphs.load(image_size)
    classes, labels = np.unique(code_points, return_inverse=True)
    return Collection(x, labels, [f"U+{c:04X} {chr(c)}" for c in classes])


def load_npz(path: str | None, _image_size: int) -> Collection:
    """Arrays `x` uint8 [n, h, w, 3] or [n, h, w] and `y` int [n] of an .npz file."""
    try:
        with np.load(existing(path)) as stored:
            x, y = stored["x"], stored["y"]
    except KeyError:
        raise UserError(
            f"{path} lacks the array x or y; expected x uint8 [n, h, w, 3] or [n, h, w] and y int [n]"
        ) from None
    except (OSError, ValueError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as an .npz file ({one_line(error)})") from None
    if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or 0 in x.shape:
        raise UserError(f"x in {path} is {x.dtype} {list(x.shape)}; expected uint8 [n, h, w, 3] or [n, h, w]")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != x.shape[:1]:
        raise UserError(f"y in {path} is {y.dtype} {list(y.shape)}; expected integers [{len(x)}]")
    classes, labels = np.unique(y, return_inverse=True)
    return Collection(x, labels, [str(c) for c in classes])


def load_folder(path: str | None, _image_size: int) -> Collection:
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


def existing(path: str | None) -> Path:
    if path is None:
        raise UserError("--data is missing: this --dataset needs the path of its data")
    if not Path(path).exists():
        raise UserError(f"--data {path} does not exist")
    return Path(path)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


LOADERS: dict[str, Callable[[str | None, int], Collection]] = {
    "glyphs": load_glyphs,
    "npz": load_npz,
    "folder": load_folder,
}
