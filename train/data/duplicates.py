"""Images that stand in both halves of a data set: what is found among the unseen classes has then been seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from ..files import reading
from .images import ImageSet


def duplicates(train: ImageSet, test: ImageSet) -> list[tuple[str, str]]:
    """(image of the one half, image of the other) by name, for each of the other that is equal bit for bit to one.

    Only images whose size occurs in the other half are read: of photographs a few in a hundred.
    """
    ours, theirs = ([size(half.stored(i)) for i in range(len(half))] for half in (train, test))
    common = set(ours).intersection(theirs)
    first: dict[bytes, int] = {}
    for i, own in enumerate(ours):
        if own in common:
            first.setdefault(digest(train.stored(i)), i)
    found = [(first.get(digest(test.stored(i))), i) for i, own in enumerate(theirs) if own in common]
    return [(train.name(seen), test.name(i)) for seen, i in found if seen is not None]


def size(image: np.ndarray | Path) -> Hashable:
    if isinstance(image, np.ndarray):
        return image.shape
    with reading(image, "an image"):
        return os.stat(image).st_size


def digest(image: np.ndarray | Path) -> bytes:
    if isinstance(image, np.ndarray):
        return hashlib.blake2b(np.ascontiguousarray(image)).digest()
    with reading(image, "an image"):
        return hashlib.blake2b(image.read_bytes()).digest()
