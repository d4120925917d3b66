"""Check, meter, then time: from a problem and its peers to rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import counts
from .problems.problem import ON_GPU, Problem
from .report.rows import Row
from .timing import work
from .timing.isolate import Deadline, Failed, run
from .timing.measure import Timing


@dataclass(frozen=True)
class Budget:
    """How much may be spent.

    Attributes:
        rounds, seconds: of timing peers side by side, or one alone.
        limit: seconds that one peer may take with one problem in all, and that its exact result may take.
        memory: bytes of address space that a peer may add; None, as on a GPU, leaves that to the device.
        deadline: of everything together.
    """

    rounds: int = 15
    seconds: float = 20.0
    limit: float = 120.0
    memory: int | None = None
    deadline: Deadline = field(default_factory=lambda: Deadline(float("inf")))

    def allowed(self) -> float:
        """Seconds that the next process may take."""
        return self.deadline.left(self.limit)


@dataclass(frozen=True)
class Runner:
    """Runs problems on a device.

    Attributes:
        only: the peers asked for, None for all.
        limits: of the device, measured in this run; empty if they could not be.
        say: is told what is going on.
    """

    device: torch.device
    limits: Mapping[str, float]
    budget: Budget
    only: Sequence[str] | None = None
    say: Callable[[str], None] = lambda _: None

    def peers_of(self, problem: Problem) -> list[str]:
        """Of those asked for; metrix_ext always. Without being asked none that is for another device."""
        if self.only is not None:
            return [peer for peer in problem.peers if peer in self.only or peer == "metrix_ext"]
        return [peer for peer in problem.peers if self.device.type == "cuda" or peer not in ON_GPU]

    def compare(
        self, case: str, problem: Problem, peers: Sequence[str] | None = None, side_by_side: bool = True
    ) -> Iterator[Row]:
        """A row for each peer, with a time where the result is right.

        Args:
            peers: instead of those asked for.
            side_by_side: time them in turn in one process. Otherwise, and where one run takes a fair part of the
                budget, each in its own.
        """
        peers = self.peers_of(problem) if peers is None else peers
        with tempfile.TemporaryDirectory() as folder:
            path = os.fspath(Path(folder, "exact.pt"))
            self.say(f"{case}: {problem}: exact result")
            try:
                exact_by = self._exact(problem, path)
            except Failed as failure:
                for peer in peers:
                    yield self._row(case, problem, peer, f"not checked; exact result: {failure}")
                return
            probes = {peer: self._probe(case, problem, peer, path, side_by_side) for peer in peers}
            quick = [peer for peer, probe in probes.items() if isinstance(probe, work.Probe) and probe.can_race]
            raced = self._race(case, problem, quick, path) if quick else {}
        for peer, probe in probes.items():
            if isinstance(probe, str):
                yield self._row(case, problem, peer, probe)
            elif probe.times is None:
                yield self._row(case, problem, peer, "wrong result", error=probe.error, exact_by=exact_by)
            else:
                yield self._timed(case, problem, peer, probe, exact_by, raced.get(peer))

    def _exact(self, problem: Problem, path: str) -> str:
        """Writes the exact result to a file and says what computed it: the first that can.

        Raises:
            Failed: none can; the message says why the last cannot.
        """
        budget = self.budget
        for by in problem.exact:
            arguments = (problem, by, str(self.device), path)
            try:
                run(work.truth, *arguments, seconds=budget.allowed(), memory=budget.memory)
            except Failed as failure:
                if by == problem.exact[-1]:
                    raise
                self.say(f"{problem}: no exact result by {by}: {failure}")
            else:
                return f"{by}, float64"
        raise Failed("nothing computes it")

    def _probe(self, case: str, problem: Problem, peer: str, path: str, side_by_side: bool) -> work.Probe | str:
        """What one peer gives, checked and metered in a process of its own, or what ended it."""
        self.say(f"{case}: {problem}: {peer}")
        budget = self.budget
        arguments = (problem, peer, str(self.device), path, budget.rounds, budget.seconds, side_by_side)
        try:
            return run(work.probe, *arguments, seconds=budget.allowed(), memory=budget.memory)
        except Failed as failure:
            return str(failure)

    def _race(self, case: str, problem: Problem, peers: Sequence[str], path: str) -> dict[str, dict[str, Timing]]:
        """Times of peers side by side; empty where that failed."""
        self.say(f"{case}: {problem}: side by side")
        budget = self.budget
        arguments = (problem, peers, str(self.device), path, budget.rounds, budget.seconds)
        try:
            return run(work.race, *arguments, seconds=budget.allowed())
        except Failed as failure:
            self.say(f"{case}: {problem}: not timed side by side: {failure}")
            return {}

    def _timed(
        self,
        case: str,
        problem: Problem,
        peer: str,
        probe: work.Probe,
        exact_by: str,
        raced: dict[str, Timing] | None,
    ) -> Row:
        times = raced if raced is not None else probe.times
        assert times is not None
        numbers: dict[str, object] = {}
        for part, timing in times.items():
            numbers |= {part: timing.median, f"{part}_20": timing.low, f"{part}_80": timing.high}
            numbers["rounds"] = timing.rounds
        if self.limits:
            stages = [stage for part in problem.counts().values() for stage in part]
            floor = counts.floor(stages, self.limits)
            total = times["both"] if "both" in times else times["forward"]
            numbers |= {"floor_ms": floor, "share": floor / total.median}
            numbers["bound"] = counts.binding(stages, self.limits)
        return self._row(
            case,
            problem,
            peer,
            error=probe.error,
            exact_by=exact_by,
            side_by_side=raced is not None,
            memory_mib=probe.memory,
            kernels=probe.kernels,
            **numbers,
        )

    def _row(self, case: str, problem: Problem, peer: str, status: str = "ok", **numbers: object) -> Row:
        return Row(case=case, peer=peer, status=status, **{**problem.columns(), **numbers})  # type: ignore[arg-type]
