"""Images with labels: a whole data set, and the part of it that has some of the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..randomness import Draw
from .decoding import decode

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass
class Collection:
    """All images of a data set.

    images: arrays uint8 [h, w] or [h, w, 3], or paths of files.
    labels: int [n], indices into `names`.
    names: of the classes.
    halves: str [classes], TRAIN, VALIDATION or TEST, where the data set itself says which class is of which.
    gallery: bool [n], the unseen images that the others search, where the data set has such; TEST only.
    skipped: how many files were left out, by reason.
    """

    images: Sequence[np.ndarray] | np.ndarray | list[Path]
    labels: np.ndarray
    names: list[str]
    halves: np.ndarray | None = None
    gallery: np.ndarray | None = None
    skipped: dict[str, int] = field(default_factory=dict)


class ImageSet(Dataset[tuple[Any, int]]):
    """The images of some classes: (transformed image, label), labels 0, 1, ... in the order of `classes`.

    chosen: bool [n], the images of the whole that may be in it; all by default.
    """

    def __init__(self, whole: Collection, classes: np.ndarray, chosen: np.ndarray | None = None) -> None:
        renumbered = np.full(len(whole.names), -1)
        renumbered[classes] = np.arange(len(classes))
        inside = renumbered[whole.labels] >= 0
        self.index = np.flatnonzero(inside if chosen is None else inside & chosen)
        self.images = whole.images
        self.labels = renumbered[whole.labels[self.index]]
        self.names = [whole.names[c] for c in classes]
        self.transform: Callable[[Image.Image], Any] = lambda image: image

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: int | Draw) -> tuple[Any, int]:
        """Of a Draw, the transform draws from its seed."""
        i = which
        if isinstance(which, Draw):
            torch.manual_seed(which.seed)
            i = which.index
        return self.transform(self.picture(i)), int(self.labels[i])

    def picture(self, i: int) -> Image.Image:
        """The image as it is, RGB."""
        image = self.stored(i)
        return Image.fromarray(image).convert("RGB") if isinstance(image, np.ndarray) else decode(image)

    def stored(self, i: int) -> np.ndarray | Path:
        return self.images[self.index[i]]

    def name(self, i: int) -> str:
        """Where the image lies: its file, or its class and its place in the array."""
        image = self.stored(i)
        return f"{self.names[self.labels[i]]}[{self.index[i]}]" if isinstance(image, np.ndarray) else str(image)
