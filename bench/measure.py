"""Check, then time: a step whose loss or gradient is wrong gets no time."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE_SECONDS = 0.05
TOLERANCE = 1e-4  # relative l2 of a float32 gradient of gamma = 75 against float64


@dataclass(frozen=True)
class Timing:
    """Milliseconds of forward and backward: median, 20 and 80 % quantiles over the rounds."""

    median: float
    low: float
    high: float


def loss_and_gradient(step: Callable[..., Tensor], embeddings: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().clone().requires_grad_()
    loss = step(leaf, *rest)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def error(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """The larger relative error of the loss and of its gradient."""
    pairs = zip(actual, expected, strict=True)
    return max(float((a.double() - e).norm() / e.norm()) for a, e in pairs)


def time_side_by_side(
    runs: Mapping[str, Callable[[], object]], rounds: int = 15, seconds: float = 20.0
) -> dict[str, Timing]:
    """Every run in turn, round after round, so that a slow moment of the machine hits all of them.

    A short run is repeated within its turn (for SAMPLE_SECONDS, after one untimed call), since the turn before has
    left the caches cold. Stops early once ``seconds`` are spent, but not before three rounds.
    """
    repeats = {}
    for name, run in runs.items():
        run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, min(50, round(SAMPLE_SECONDS / (time.perf_counter() - start))))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, run in runs.items():
            if repeats[name] > 1:
                run()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            samples[name].append(1e3 * (time.perf_counter() - start) / repeats[name])
    return {name: _quantiles(times) for name, times in samples.items()}


def _quantiles(times: list[float]) -> Timing:
    ordered = sorted(times)
    last = len(ordered) - 1
    return Timing(statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)])


def peak_memory() -> int:
    """Bytes that this process has had resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_name() -> str:
    """The processor, as the operating system names it, and the threads in use."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {torch.get_num_threads()} threads"
