"""Time, memory and error of a step."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from bench.problems.problem import Step, error
from bench.timing import measure
from bench.timing.measure import Clock, PeakMemory, Timing, time_side_by_side
from tests.bench.problems import CPU


def test_quantiles() -> None:
    assert Timing.of([5.0, 1.0, 2.0, 4.0, 3.0, 6.0]) == Timing(3.5, 2.0, 5.0, 6)


def test_side_by_side_takes_turns_and_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def work(name: str) -> None:
        turns.append(name)
        clock.now += 0.06

    # A clock that only the steps move: what else the machine does in the meantime is not measured.
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(measure, "time", clock)
    steps = {name: Step({"forward": partial(work, name)}, list) for name in ("a", "b")}
    found = time_side_by_side(steps, Clock(CPU), rounds=50, seconds=0.0)
    assert turns == ["a", "a", "b", "b", *["a", "b"] * 3]
    assert found["a"]["forward"].rounds == 3
    assert found["a"]["forward"].median == pytest.approx(60)


def test_peak_memory_is_of_the_block_alone() -> None:
    def peak(mib: int) -> float:
        with PeakMemory(CPU) as memory:
            for _ in range(2):
                torch.ones(mib * 2**18)
        return memory.mib

    peak(300)
    assert peak(100) == pytest.approx(100, abs=20)


def test_error() -> None:
    exact = [torch.tensor(2.0), torch.tensor([3.0, 4.0])]
    assert error([torch.tensor(2.0), torch.tensor([3.0, 4.5])], exact) == pytest.approx(0.1)
    assert error([torch.tensor(float("nan")), exact[1]], exact) == float("inf")
    assert error(exact[:1], exact) == float("inf")
