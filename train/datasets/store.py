"""The file of a data set, and the record of how it was made, beside it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from .drawings import Drawing
from .packages import Package


@dataclass(frozen=True)
class Source:
    """Where the drawings of one family are from."""

    name: str
    package: Package
    licence: str


@dataclass(frozen=True)
class DrawnSet:
    """The drawings of each class, where they are from, and how much was left out, by reason."""

    classes: Mapping[str, list[Drawing]]
    sources: list[Source]
    skipped: Mapping[str, int]


def write(out: Path, drawn: DrawnSet) -> dict[str, Any]:
    """x uint8 [n, side, side, 3], y int64 [n], name [n] of the class and src [n], without pickle, in `out`.

    What they are made of is written as .json of the same name, and returned.
    """
    classes = drawn.classes
    drawings = [drawing for name in sorted(classes) for drawing in sorted(classes[name], key=lambda d: d.source)]
    names = np.array([drawing.name for drawing in drawings])
    with replacing(out) as file:
        np.savez_compressed(
            file,
            x=np.stack([drawing.image for drawing in drawings]),
            y=np.unique(names, return_inverse=True)[1].astype(np.int64),
            name=names,
            src=np.array([drawing.source for drawing in drawings]),
        )
    record = describe(drawn) | {"sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    with replacing(out.with_suffix(".json")) as file:
        file.write(json.dumps(record, indent=1).encode())
    return record


def describe(drawn: DrawnSet) -> dict[str, Any]:
    images = Counter(drawing.source for drawings in drawn.classes.values() for drawing in drawings)
    sizes = Counter(len(drawings) for drawings in drawn.classes.values())
    return {
        "images": images.total(),
        "classes": len(drawn.classes),
        "classes_by_images": {str(size): sizes[size] for size in sorted(sizes)},
        "left_out": {reason: n for reason, n in drawn.skipped.items() if n},
        "sources": [
            {
                "name": source.name,
                "package": source.package.name,
                "version": source.package.version,
                "licence": source.licence,
                "images": images[source.name],
            }
            for source in drawn.sources
        ],
    }


def summary(record: Mapping[str, Any]) -> str:
    """Lines for a person."""
    sources = record["sources"]
    width = max(len(source["package"]) for source in sources)
    sizes = ", ".join(f"{n} with {size}" for size, n in record["classes_by_images"].items())
    lines = [
        f"{record['images']} images of {record['classes']} classes from {len(sources)} packages",
        *(f"  {s['package']:{width}}  {s['version']:9}{s['licence']:13}{s['images']:5} images" for s in sources),
        f"classes by their number of images: {sizes}",
        *(f"left out: {n} {reason}" for reason, n in record["left_out"].items()),
        f"SHA-256 {record['sha256']}",
    ]
    return "\n".join(lines)
