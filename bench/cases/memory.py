"""Peak extra memory of large batches, each peer in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

from ..report.rows import Row
from ..runner import Runner
from .feature import Feature
from .pair_sums import PairSums


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    problems = (
        [PairSums(64, 4, 128), Feature(24, 3, c=128, d=64)]
        if quick
        else [PairSums(4096, 8, pairs="clean"), PairSums(4096, 8), Feature(100, 5)]
    )
    for problem in problems:
        yield from runner.compare("memory", problem, side_by_side=False)
