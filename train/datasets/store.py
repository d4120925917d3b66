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


def write(
    out: Path, classes: Mapping[str, list[Drawing]], sources: list[Source], skipped: Mapping[str, int]
) -> dict[str, Any]:
    """The arrays x uint8 [n, side, side, 3], y int64 [n], name [n] and src [n], loadable without pickle, in `out`;
    in a .json of the same name, and returned, what they are made of."""
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
    record = describe(classes, sources, skipped) | {"sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    with replacing(out.with_suffix(".json")) as file:
        file.write(json.dumps(record, indent=1).encode())
    return record


def describe(
    classes: Mapping[str, list[Drawing]], sources: list[Source], skipped: Mapping[str, int]
) -> dict[str, Any]:
    images = Counter(drawing.source for drawings in classes.values() for drawing in drawings)
    sizes = Counter(len(drawings) for drawings in classes.values())
    return {
        "images": images.total(),
        "classes": len(classes),
        "classes_by_images": {str(size): sizes[size] for size in sorted(sizes)},
        "left_out": {reason: n for reason, n in skipped.items() if n},
        "sources": [
            {
                "name": source.name,
                "package": source.package.name,
                "version": source.package.version,
                "licence": source.licence,
                "images": images[source.name],
            }
            for source in sources
        ],
    }


def summary(record: Mapping[str, Any]) -> str:
    """Lines for a person."""
    width = max(len(source["package"]) for source in record["sources"])
    table = [
        f"  {source['package']:{width}}  {source['version']:9}  {source['licence']:12}  {source['images']:5} images"
        for source in record["sources"]
    ]
    return "\n".join(
        [
            f"{record['images']} images of {record['classes']} classes from {len(table)} packages",
            *table,
            "classes by their number of images: "
            + ", ".join(f"{n} with {size}" for size, n in record["classes_by_images"].items()),
            *(f"left out: {n} {reason}" for reason, n in record["left_out"].items()),
            f"SHA-256 {record['sha256']}",
        ]
    )
