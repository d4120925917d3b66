"""Problems, peers that fail and results, small enough for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.cases.pair_sums import PairSums
from bench.problems.problem import Step
from bench.report import results
from bench.report.rows import Row
from bench.runner import Budget
from bench.timing import isolate

CPU = torch.device("cpu")
LIMITS = {"exp": 1e9, "product_float32": 1e10, "product_bfloat16": 4e10, "bytes": 1e10}
QUICK = Budget(rounds=2, seconds=0.1, limit=60.0)


def takes_memory(report: isolate.Report) -> None:
    report("forward")
    torch.ones(2**30)


@dataclass(frozen=True)
class Odd(PairSums):
    """Peers that are right, wrong, fail in backward of all but the tiniest problem, and cannot do it."""

    peers = ("metrix_ext", "wrong", "failing", "missing")

    def step(self, peer: str, device: torch.device) -> Step:
        right = super().step("metrix_ext", device)
        if peer == "wrong":
            return Step(right.parts, lambda: [1.001 * value for value in right.result()])
        if peer == "failing" and self != self.tiny():
            return Step({**right.parts, "backward": lambda: takes_memory(lambda _: None)}, right.result)
        if peer == "missing":
            raise isolate.Unavailable("it is not here")
        return right


class Unknown(Odd):
    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        raise RuntimeError("no idea")


class Heavy(PairSums):
    """The reference runs out of memory."""

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        if by == "reference":
            takes_memory(lambda _: None)
        return super().truth(by, device)


def a_result(**numbers: object) -> results.Result:
    environment = {
        "device": "A processor",
        "threads": 2,
        "instruction_set": "avx2",
        "date": "2026-01-02 03:04 UTC",
        "commit": "abc",
        "versions": {"torch": "2.9"},
    }
    problem = {"n": 100, "k": 5, "d": 512, "pairs": "pos-neg", "lam": "per pair", "renormalize": True}
    rows = [
        Row("pair-sums", "metrix_ext", **problem, forward=1.0, backward=1.5, both=2.5, side_by_side=True, **numbers),
        Row("pair-sums", "gram", **problem, forward=10.0, backward=20.0, both=30.0, side_by_side=True),
        Row("pair-sums", "reference", "out of memory in forward", **problem),
    ]
    return results.Result("pair-sums", environment, LIMITS, rows)
