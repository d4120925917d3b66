"""Drawings of named things, and which of them make well-defined classes."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SIDE = 64  # pixels
LEAST, MOST = 4, 8  # drawings of a class
ALIKE = 0.97  # correlation of two drawings from which on they count as one


@dataclass(frozen=True)
class Drawing:
    """One source's drawing of a class. image: uint8 [SIDE, SIDE, 3]."""

    name: str
    source: str
    image: np.ndarray


def by_class(drawings: Iterable[Drawing]) -> dict[str, list[Drawing]]:
    """In an order of their own within each class, which favours no source and is the same everywhere."""
    classes: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        classes[drawing.name].append(drawing)
    return {name: sorted(classes[name], key=shuffled) for name in sorted(classes)}


def shuffled(drawing: Drawing) -> bytes:
    return hashlib.blake2b(f"{drawing.name}/{drawing.source}".encode()).digest()


def unlike(drawings: list[Drawing]) -> list[Drawing]:
    """Without those that look like an earlier one: sources copy from one another."""
    pictures = normalised(drawings)
    kept: list[int] = []
    for i, picture in enumerate(pictures):
        if not kept or (pictures[kept] @ picture).max() < ALIKE:
            kept.append(i)
    return [drawings[i] for i in kept]


def normalised(drawings: list[Drawing]) -> np.ndarray:
    """[n, pixels], of mean 0 and norm 1: their inner products are correlations. A blank one is 0."""
    pixels = np.stack([drawing.image for drawing in drawings]).reshape(len(drawings), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    return pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)


def apart(classes: Mapping[str, list[Drawing]], synonyms: Iterable[tuple[str, str]] = ()) -> dict[str, list[Drawing]]:
    """Of classes that share a drawing, pixel for pixel, or are synonyms, the one with most drawings stays."""
    rivals: dict[str, set[str]] = defaultdict(set)
    for group in [*shared(classes), *synonyms]:
        for name in group:
            rivals[name].update(other for other in group if other != name)
    kept: set[str] = set()
    for name in sorted(classes, key=lambda name: (-len(classes[name]), name)):
        if not rivals[name] & kept:
            kept.add(name)
    return {name: drawings for name, drawings in classes.items() if name in kept}


def shared(classes: Mapping[str, list[Drawing]]) -> list[set[str]]:
    """Sets of classes that have a drawing in common."""
    owners: dict[bytes, set[str]] = defaultdict(set)
    for name, drawings in classes.items():
        for drawing in drawings:
            owners[hashlib.blake2b(drawing.image.tobytes()).digest()].add(name)
    return [names for names in owners.values() if len(names) > 1]


def choose(
    drawings: Iterable[Drawing], synonyms: Iterable[tuple[str, str]], skipped: Counter[str]
) -> dict[str, list[Drawing]]:
    """The classes of the data set with LEAST to MOST drawings each; `skipped` counts what is left out, and why."""
    found = by_class(drawings)
    distinct = {name: unlike(some) for name, some in found.items()}
    skipped["drawings like another one of their class"] += count(found) - count(distinct)
    large = {name: some for name, some in distinct.items() if len(some) >= LEAST}
    skipped[f"classes with fewer than {LEAST} drawings"] += len(distinct) - len(large)
    classes = apart(large, synonyms)
    skipped["classes that share a drawing or are synonyms"] += len(large) - len(classes)
    chosen = {name: some[:MOST] for name, some in classes.items()}
    skipped[f"drawings beyond {MOST} of a class"] += count(classes) - count(chosen)
    return chosen


def count(classes: Mapping[str, list[Drawing]]) -> int:
    return sum(map(len, classes.values()))
