"""Which implementation runs: reference, cpu, cuda or triton; ``auto`` picks by device and by what is built."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from . import native

NAMES = ("reference", "cpu", "cuda", "triton", "auto")

_requested = os.environ.get("METRIX_BACKEND", "auto")


def _check_name(name: str, source: str) -> None:
    if name not in NAMES:
        raise ValueError(f"{source}: {name!r} is no backend, expected one of {', '.join(NAMES)}")


_check_name(_requested, "METRIX_BACKEND")


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Makes every op inside the ``with`` block run on the named backend, in all threads.

    Args:
        name: ``"reference"`` (PyTorch, differentiable, any device and dtype), ``"cpu"``, ``"cuda"``, ``"triton"``
            or ``"auto"``.

    Raises:
        ValueError: there is no such backend.
        RuntimeError: it cannot run here; the message says why.
    """
    global _requested
    _check_name(name, "use_backend")
    if name != "auto" and (reason := why_not(name)):
        raise RuntimeError(f"backend {name!r} cannot run: {reason}")
    before, _requested = _requested, name
    try:
        yield
    finally:
        _requested = before


def why_not(name: str) -> str | None:
    """Why a backend cannot run on this machine, or None if it can."""
    if name == "reference":
        return None
    if name == "triton":
        return "this version has no Triton kernels"
    if failure := native.failure():
        return failure
    if name == "cuda":
        return "this version has no CUDA kernels for pair_sums"
    return None


def choose(device: torch.device) -> str:
    """The backend for tensors on a device.

    Raises:
        RuntimeError: a backend was asked for by name and cannot run on this device; the message says why.
    """
    if _requested == "reference":
        return "reference"
    if _requested == "auto":
        return "cpu" if device.type == "cpu" and native.failure() is None else "reference"
    if reason := why_not(_requested):
        raise RuntimeError(f"backend {_requested!r} cannot run: {reason}")
    if _requested != device.type:
        raise RuntimeError(f"backend {_requested!r} cannot run on {device.type} tensors")
    return _requested
