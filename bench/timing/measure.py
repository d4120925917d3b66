"""Time, memory and kernels of a step."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..problems.problem import Step

SAMPLE_SECONDS = 0.05
SAMPLE_REPEATS = 50
FEWEST_ROUNDS = 3

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Timing:
    """Milliseconds: median, 20 and 80 % quantiles over the rounds, of which there were so many."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, times: list[float]) -> Timing:
        ordered = sorted(times)
        last = len(ordered) - 1
        return cls(statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)], len(ordered))


class Clock:
    """Moments of a device: of the processor, or on a GPU events between its kernels."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        if self.device.type != "cpu":
            torch.cuda.synchronize(self.device)

    def between(self, begin: Any, end: Any) -> float:
        """Milliseconds, once the device has been waited for."""
        return 1e3 * (end - begin) if self.device.type == "cpu" else begin.elapsed_time(end)

    def time(self, run: Callable[[], object]) -> float:
        self.wait()
        begin = self.mark()
        run()
        end = self.mark()
        self.wait()
        return self.between(begin, end)


def sample(step: Step, clock: Clock, repeats: int = 1) -> dict[str, float]:
    """Milliseconds of every part and of both: the mean of the repeats."""
    marks = []
    for _ in range(repeats):
        marks.append([clock.mark()])
        for part in step.parts.values():
            part()
            marks[-1].append(clock.mark())
    clock.wait()
    times = {
        name: statistics.fmean(clock.between(run[k], run[k + 1]) for run in marks) for k, name in enumerate(step.parts)
    }
    return with_both(times)


def with_both(times: dict[str, float]) -> dict[str, float]:
    """The times of parts, and "both" if there are two."""
    return times | {"both": sum(times.values())} if len(times) > 1 else times


def time_side_by_side(
    steps: Mapping[str, Step], clock: Clock, rounds: int = 15, seconds: float = 20.0
) -> dict[str, dict[str, Timing]]:
    """Every step in turn, round after round, so that a slow moment of the machine hits all of them.

    A short step is repeated within its turn (for SAMPLE_SECONDS, after one untimed call), since the turn before has
    left the caches cold. Stops early once ``seconds`` are spent, but not before FEWEST_ROUNDS.
    """
    repeats = {}
    for name, step in steps.items():
        sample(step, clock)
        begin = time.perf_counter()
        sample(step, clock)
        spent = time.perf_counter() - begin
        repeats[name] = max(1, min(SAMPLE_REPEATS, round(SAMPLE_SECONDS / spent)))
    samples: dict[str, Samples] = {name: {} for name in steps}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begin > seconds:
            break
        for name, step in steps.items():
            if repeats[name] > 1:
                sample(step, clock)
            append(samples[name], sample(step, clock, repeats[name]))
    return {name: timings(taken) for name, taken in samples.items()}


def append(samples: Samples, times: Mapping[str, float]) -> None:
    for part, milliseconds in times.items():
        samples.setdefault(part, []).append(milliseconds)


def timings(samples: Samples) -> dict[str, Timing]:
    return {part: Timing.of(times) for part, times in samples.items()}


class PeakMemory:
    """MiB that a ``with`` block adds at most to what its process, or its GPU, holds when it begins."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mib = float("nan")

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cpu":
            _give_back_freed_memory()
            # Where this may not be written, the peak is that of the process, which nothing larger came before.
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak starts again from what is resident now
            self._before = _resident("VmRSS")
        else:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cpu":
            peak = _resident("VmHWM")
        else:
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
        self.mib = (peak - self._before) / 2**20


def _give_back_freed_memory() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int:
    """Bytes, by a line of /proc/self/status; where there is none, the peak of the process."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(field + ":"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def kernels(step: Step, device: torch.device) -> int | None:
    """How many kernels, copies and fills one run of all parts gives a GPU; None on a processor."""
    if device.type == "cpu":
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for part in step.parts.values():
            part()
        torch.cuda.synchronize(device)
    return sum(
        event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        for event in profiler.events()
    )
