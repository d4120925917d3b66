"""Images that stand in both halves of a data set: what is found among the unseen classes has then been seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

from ..files import reading
from .images import ImageSet

ENDING = 4096  # bytes; compressed photographs of one size differ in them


def duplicates(train: ImageSet, test: ImageSet) -> list[tuple[str, str]]:
    """(image of the one half, image of the other) by name, for each of the other that is equal bit for bit to one.

    Only images whose size occurs in the other half are opened, and only those are read whole that end alike, too.
    """
    ours, theirs = list(range(len(train))), list(range(len(test)))
    for trait in (size, ending):
        ours, theirs = alike(train, ours, test, theirs, trait)
    first: dict[bytes, int] = {}
    for i in ours:
        first.setdefault(digest(train.stored(i)), i)
    found = [(first.get(digest(test.stored(i))), i) for i in theirs]
    return [(train.name(seen), test.name(i)) for seen, i in found if seen is not None]


def alike(
    train: ImageSet, ours: list[int], test: ImageSet, theirs: list[int], trait: Callable[[np.ndarray | Path], Hashable]
) -> tuple[list[int], list[int]]:
    """Those of either half that have the trait of one of the other half."""
    our_traits, their_traits = ([trait(half.stored(i)) for i in some] for half, some in ((train, ours), (test, theirs)))
    common = set(our_traits).intersection(their_traits)
    return (
        [i for i, own in zip(ours, our_traits, strict=True) if own in common],
        [i for i, own in zip(theirs, their_traits, strict=True) if own in common],
    )


def size(image: np.ndarray | Path) -> Hashable:
    if isinstance(image, np.ndarray):
        return image.shape
    with reading(image, "an image"):
        return os.stat(image).st_size


def ending(image: np.ndarray | Path) -> bytes:
    if isinstance(image, np.ndarray):
        return hashlib.blake2b(np.ascontiguousarray(image[-1])).digest()
    with reading(image, "an image"), open(image, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDING))
        return hashlib.blake2b(file.read()).digest()


def digest(image: np.ndarray | Path) -> bytes:
    if isinstance(image, np.ndarray):
        return hashlib.blake2b(np.ascontiguousarray(image)).digest()
    with reading(image, "an image"):
        return hashlib.blake2b(image.read_bytes()).digest()
