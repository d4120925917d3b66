"""The lines of metrics.jsonl: what was measured of each epoch, with "epoch" counted from 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]


def flat(mapping: Mapping[str, Any], separator: str = ".", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b", value) for {"a": {"b": value}}."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value


def series(lines: Sequence[Line], name: str) -> tuple[list[int], list[float]]:
    """The epochs that have the value of this flat name, and their values."""
    found = [(line["epoch"], dict(flat(line))[name]) for line in lines if name in dict(flat(line))]
    return [epoch for epoch, _ in found], [value for _, value in found]
