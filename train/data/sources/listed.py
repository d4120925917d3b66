"""Data sets whose images, classes and halves stand in lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ...files import require_file
from ..images import TEST, TRAIN, VALIDATION, Collection

# What lists call the parts, and whose classes they have.
HALF_OF = {"train": TRAIN, "val": VALIDATION, "test": TEST, "query": TEST, "gallery": TEST}
NO_NAMES: Mapping[Any, str] = MappingProxyType({})


class Row(NamedTuple):
    image: Path
    label: int | str
    part: str | None = None  # one of HALF_OF, if the list says it


def lines(path: Path) -> list[str]:
    """Of a text file, without blank ones at its end."""
    require_file(path)
    return path.read_text(encoding="utf-8-sig").rstrip().split("\n")


def fields(path: Path, header: str, skip: int = 0) -> list[list[str]]:
    """The columns of a list below its header, the path among them with its blanks.

    Raises ValueError if the line after the first `skip` is not the header, or a line below it has fewer columns.
    """
    title, *body = lines(path)[skip:] or [""]
    expected = header.split()
    if title.split() != expected:
        raise ValueError(f"line {skip + 1} is {title[:40]!r}, expected the header {header!r}")
    return [split(line, expected, number) for number, line in enumerate(body, skip + 2)]


def split(line: str, header: Sequence[str], number: int) -> list[str]:
    """Into as many columns as the header has; what is left over belongs to the first one or to the last one."""
    last = header[-1] == "path"
    found = line.split(maxsplit=len(header) - 1) if last else line.rsplit(maxsplit=len(header) - 1)
    if len(found) != len(header):
        raise ValueError(f"line {number} is {line[:40]!r}, expected {' '.join(header)}")
    return [text.strip() for text in found]


def whole_number(text: str, number: int) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"line {number} has {text[:40]!r} where a whole number was expected") from None


def collect(rows: Sequence[Row], names: Mapping[Any, str] = NO_NAMES) -> Collection:
    """The classes in the order of their labels, numbers before names, each with its own name where `names` has one.

    Raises ValueError if there is no image, if a class is in two halves, and if there are queries but no gallery or a
    gallery but no queries.
    """
    if not rows:
        raise ValueError("it lists no images")
    classes = sorted({row.label for row in rows}, key=rank)
    index = {label: i for i, label in enumerate(classes)}
    labels = np.array([index[row.label] for row in rows])
    named = [str(names.get(label, label)) for label in classes]
    images = [row.image for row in rows]
    if rows[0].part is None:
        return Collection(images, labels, named)
    parts = [str(row.part) for row in rows]
    return Collection(images, labels, named, halves=halves(labels, parts, named), gallery=gallery(parts))


def rank(label: int | str) -> tuple[bool, int, str]:
    try:
        return False, int(label), str(label)
    except ValueError:
        return True, 0, str(label)


def halves(labels: np.ndarray, parts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    found: dict[int, str] = {}
    for label, part in zip(labels.tolist(), parts, strict=True):
        half = HALF_OF.get(part)
        if half is None:
            raise ValueError(f"part {part[:40]!r} is none of {', '.join(HALF_OF)}")
        if found.setdefault(label, half) != half:
            raise ValueError(f"class {names[label]} is listed as {found[label]} and as {half}; halves share no class")
    return np.array([found[label] for label in range(len(names))])


def gallery(parts: Sequence[str]) -> np.ndarray | None:
    """Which images are of the gallery; None if the unseen images are searched among themselves."""
    listed = set(parts)
    if "gallery" not in listed:
        if "query" in listed:
            raise ValueError("it lists queries, but no gallery that they search")
        return None
    if not listed & {"query", "test"}:
        raise ValueError("it lists a gallery, but no queries")
    return np.array([part == "gallery" for part in parts])
