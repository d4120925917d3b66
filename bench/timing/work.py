"""What runs in processes of its own: the exact result, one peer checked and metered, peers timed side by side."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch

from ..problems.problem import Problem, Step, error
from .isolate import Report
from .limits import measure_limits
from .measure import (
    Clock,
    PeakMemory,
    Timing,
    append,
    kernels,
    sample,
    time_side_by_side,
    timings,
    with_both,
)

LONG = 10.0  # seconds; what takes longer is not run again to load what its first run has loaded
COMPILED = "-compiled"  # ends the names of peers under torch.compile
TURNS = 4  # a peer is timed side by side if so many of its turns fit the time for it


@dataclass(frozen=True)
class Probe:
    """One peer, alone.

    Attributes:
        error: relative; the rest is missing where it is too large.
        memory: MiB at the peak.
        times: of parts and both; one round only if ``can_race``.
        can_race: it is quick enough to be timed side by side with others.
    """

    error: float
    memory: float = float("nan")
    kernels: int | None = None
    times: dict[str, Timing] | None = None
    can_race: bool = False


def limits(report: Report, device: str) -> dict[str, float]:
    report("measuring the limits")
    return measure_limits(torch.device(device))


def truth(report: Report, problem: Problem, by: str, device: str, path: str) -> None:
    """Writes the exact result to a file."""
    report("exact result")
    exact = problem.truth(by, torch.device(device))
    torch.save([value.cpu() for value in exact], path)


def probe(
    report: Report, problem: Problem, peer: str, device: str, path: str, rounds: int, seconds: float, race: bool
) -> Probe:
    """Checks a peer against the exact result and meters it.

    Args:
        path: of the exact result.
        rounds, seconds: of timing it alone, at most.
        race: leave that out if it can be timed side by side within ``seconds``.
    """
    where = torch.device(device)
    clock = Clock(where)
    _keep_compiled_in(path)
    if peer.endswith(COMPILED):
        report("compilation")
        step = problem.step(peer, where)
        run_parts(step, clock)
    else:
        report("loading")
        run_parts(problem.tiny().step(peer, where), clock)
        report("set-up")
        step = problem.step(peer, where)
    times, memory = _metered(report, step, clock)
    report("check")
    wrong = error(step.result(), torch.load(path, weights_only=True))
    if not wrong <= problem.tolerance:
        return Probe(wrong)
    count = None
    if sum(times.values()) < 1e3 * LONG:
        times, memory = _metered(report, step, clock)
        count = kernels(step, where)
    samples = {part: [milliseconds] for part, milliseconds in times.items()}
    can_race = race and TURNS * sum(times.values()) < 1e3 * seconds
    if not can_race:
        report("timing")
        begin = time.perf_counter()
        while len(next(iter(samples.values()))) < rounds and time.perf_counter() - begin < seconds:
            append(samples, sample(step, clock))
    memory = memory if step.allocates else float("nan")
    return Probe(wrong, memory, count, timings(samples), can_race)


def race(
    report: Report, problem: Problem, peers: list[str], device: str, path: str, rounds: int, seconds: float
) -> dict[str, dict[str, Timing]]:
    """Times of peers side by side; ``path`` as of ``probe``."""
    where = torch.device(device)
    _keep_compiled_in(path)
    steps = {}
    for peer in peers:
        report(f"set-up of {peer}")
        steps[peer] = problem.step(peer, where)
    report("timing side by side")
    return time_side_by_side(steps, Clock(where), rounds, seconds)


def _keep_compiled_in(path: str) -> None:
    """What torch.compile makes goes next to the exact result: an ended process leaves no half files to later ones."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(os.path.dirname(path), "inductor")


def _metered(report: Report, step: Step, clock: Clock) -> tuple[dict[str, float], float]:
    """Milliseconds of every part, and MiB that all of them add at most."""
    with PeakMemory(clock.device) as memory:
        times = run_parts(step, clock, report)
    return times, memory.mib


def run_parts(step: Step, clock: Clock, report: Report = lambda _: None) -> dict[str, float]:
    """Milliseconds of every part once. Part by part, so that whoever ends this process knows in which one it was."""
    times = {}
    for name, part in step.parts.items():
        report(name)
        times[name] = clock.time(part)
    return with_both(times)
