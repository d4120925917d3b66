"""Time and memory against n, until a peer fails or passes its limit; each size of each peer in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

from ..report.rows import Row
from ..runner import Runner
from .pair_sums import PairSums

SETS = ("clean", "anc-neg", "pos-neg")
SIZES = (64, 256, 1024, 4096, 16_384, 65_536)
QUICK_SIZES = (32, 128)


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    for pairs in SETS:
        peers = [peer for peer in runner.peers_of(PairSums(64, 8)) if peer != "metrix_ext-graph"]
        for n in QUICK_SIZES if quick else SIZES:
            problem = PairSums(n, 8, 64 if quick else 512, pairs)
            rows = list(runner.compare("scaling", problem, peers))
            yield from rows
            failed = {row.peer for row in rows if row.status != "ok"}
            peers = [peer for peer in peers if peer not in failed]
            if not peers:
                break
