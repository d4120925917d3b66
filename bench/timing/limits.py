"""What a device can do at most, measured with PyTorch alone: exponentials, matrix products, bytes, each per second."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from .measure import Clock

CHAIN = 64  # exponentials of one value after the other, so that a GPU is kept from memory
SECONDS = 0.3


def measure_limits(device: torch.device) -> dict[str, float]:
    """Per second: exp, product_float32, product_bfloat16, product_float16 (on a GPU), bytes."""
    best = {"exp": _exponentials(device), "bytes": _bytes(device)}
    for dtype in (torch.float32, torch.bfloat16):
        best[f"product_{str(dtype).removeprefix('torch.')}"] = _products(device, dtype)
    return best


def _rate(device: torch.device, work: float, run: Callable[[], object]) -> float:
    """work per second in the median of short rounds."""
    clock = Clock(device)
    run()
    once = clock.time(run)
    repeats = max(1, int(1e3 * SECONDS / 10 / max(once, 1e-3)))

    def repeated() -> None:
        for _ in range(repeats):
            run()

    return 1e3 * work * repeats / statistics.median(clock.time(repeated) for _ in range(9))


def _exponentials(device: torch.device) -> float:
    if device.type == "cpu":
        # Within every core's second-level cache; 2^15 elements are what PyTorch gives a thread at least.
        x = torch.rand(2**15 * torch.get_num_threads())
        out = torch.empty_like(x)
        return _rate(device, x.numel(), lambda: torch.exp2(x, out=out))
    x = torch.rand(2**24, device=device)
    try:
        chain = torch.compile(_chain)
        return _rate(device, CHAIN * x.numel(), lambda: chain(x))
    except Exception:  # torch.compile lacks a compiler here: a lower bound, limited by memory
        return _rate(device, x.numel(), lambda: torch.exp2(x, out=x))


def _chain(x: Tensor) -> Tensor:
    for _ in range(CHAIN):
        x = torch.exp2(-x)
    return x


def _products(device: torch.device, dtype: torch.dtype) -> float:
    size = 1024 if device.type == "cpu" else 8192
    x = torch.rand(size, size, device=device).to(dtype)
    out = torch.empty_like(x)
    return _rate(device, 2.0 * size**3, lambda: torch.mm(x, x, out=out))


def _bytes(device: torch.device) -> float:
    """Read and written by a copy far larger than any cache."""
    x = torch.ones(2**26 if device.type == "cpu" else 2**29, dtype=torch.float32, device=device)
    out = torch.zeros_like(x)
    return _rate(device, 2.0 * x.nbytes, lambda: out.copy_(x))
