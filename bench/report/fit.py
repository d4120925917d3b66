"""How time and memory grow with n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .rows import OK, Row

POINTS = 3  # the largest sizes; below, calls cost more than work


@dataclass(frozen=True)
class Growth:
    """time and memory grow as n to these powers, from one size to another; None if that cannot be said."""

    pairs: str
    peer: str
    time: float | None
    memory: float | None
    smallest: int
    largest: int
    ended_by: str


def exponent(sizes: Sequence[int], values: Sequence[float | None]) -> float | None:
    """The slope of log value over log size by least squares; None with fewer than two positive values."""
    points = [(math.log(n), math.log(v)) for n, v in zip(sizes, values, strict=True) if v is not None and v > 0]
    if len({x for x, _ in points}) < 2:
        return None
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    over = sum((x - x_mean) * (y - y_mean) for x, y in points)
    return over / sum((x - x_mean) ** 2 for x, _ in points)


def growth(rows: Sequence[Row]) -> list[Growth]:
    """For every set of pairs and peer, over the largest sizes that it has done."""
    fits = []
    for pairs, peer in dict.fromkeys((row.pairs, row.peer) for row in rows):
        own = sorted((r for r in rows if (r.pairs, r.peer) == (pairs, peer)), key=lambda row: row.n or 0)
        done = [row for row in own if row.status == OK]
        if not done:
            continue
        last = done[-POINTS:]
        sizes = [row.n or 0 for row in last]
        failed = next((f"{row.status} at n = {row.n:,}" for row in own if row.status != OK), "")
        time, memory = exponent(sizes, [r.time for r in last]), exponent(sizes, [r.memory_mib for r in last])
        fits.append(Growth(pairs, peer, time, memory, sizes[0], sizes[-1], failed))
    return fits
