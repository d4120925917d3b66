"""Which implementation runs: reference, cpu, cuda or triton; ``auto`` picks by device and by what is built."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from . import native

NAMES = ("reference", "cpu", "cuda", "triton", "auto")
_PREFERRED = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}  # by the type of the device

# Asked once: torch.compile traces choose().
_triton_is_installed = importlib.util.find_spec("triton") is not None
_triton_is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"

# What use_backend asks for: the open blocks of this thread, the last of which counts.
_FROM_ENVIRONMENT = os.environ.get("METRIX_BACKEND", "auto")
_blocks: ContextVar[tuple[tuple[object, str], ...]] = ContextVar("metrix_ext.backend", default=())

# A graph is compiled again when a ContextVar changes only from PyTorch 2.14 on. Before, it follows the open blocks of
# all threads: the numbers are those of its own within rounding.
_graphs_follow_context = torch.torch_version.TorchVersion(torch.__version__) >= "2.14"
_names_in_all_threads: list[str] = []


def _check_name(name: str, source: str) -> None:
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"{source}: {name!r} is no backend, expected one of {', '.join(NAMES)}")


_check_name(_FROM_ENVIRONMENT, "METRIX_BACKEND")


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Makes every op inside the ``with`` block run on the named backend, in this thread, and their backward wherever.

    Args:
        name: ``"reference"`` (PyTorch, differentiable, any device and dtype), ``"cpu"``, ``"cuda"``, ``"triton"``
            or ``"auto"``.

    Raises:
        ValueError: there is no such backend.
        RuntimeError: it cannot run here; the message says why.
    """
    _check_name(name, "use_backend")
    if name != "auto" and (reason := why_not(name)):
        raise RuntimeError(f"backend {name!r} cannot run: {reason}")
    block = (object(), name)
    _blocks.set((*_blocks.get(), block))
    _names_in_all_threads.append(name)
    try:
        yield
    finally:  # blocks may be left in another order than they were entered in
        _blocks.set(tuple(other for other in _blocks.get() if other is not block))
        _names_in_all_threads.remove(name)


def requested() -> str:
    """What use_backend or METRIX_BACKEND asked for."""
    if not _graphs_follow_context and torch.compiler.is_compiling():
        return _names_in_all_threads[-1] if _names_in_all_threads else _FROM_ENVIRONMENT
    blocks = _blocks.get()
    return blocks[-1][1] if blocks else _FROM_ENVIRONMENT


def why_not(name: str) -> str | None:
    """Why a backend cannot run on this machine, or None if it can."""
    if name == "reference":
        return None
    if name == "triton":
        return _why_not_triton()
    if failure := native.failure():
        return failure
    if name == "cuda":
        if not native.cuda_architectures():
            return "metrix_ext was built without its CUDA kernels (METRIX_CUDA=1 asks for them)"
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA device"
    return None


def _why_not_triton() -> str | None:
    if not _triton_is_installed:
        return "Triton is not installed"
    if not (_triton_is_interpreted or torch.cuda.is_available()):
        return "PyTorch finds no CUDA device, and CPU tensors need Triton's interpreter (TRITON_INTERPRET=1)"
    return None


def choose(device: torch.device) -> str:
    """The backend for tensors on a device.

    Raises:
        RuntimeError: a backend was asked for by name and cannot run on this device; the message says why.
    """
    asked = requested()
    if asked == "reference":
        return "reference"
    if device.type == "meta":
        return "cpu"  # no data, no kernel: the ops' fakes, which are the same for all backends
    if asked == "auto":
        for name in _PREFERRED.get(device.type, ()):
            if why_not(name) is None:
                return name
        return "reference"
    if reason := _why_not_on(asked, device):
        raise RuntimeError(f"backend {asked!r} cannot run: {reason}")
    return asked


def _why_not_on(name: str, device: torch.device) -> str | None:
    """Why a backend cannot run on tensors of a device, or None if it can."""
    if name == "triton" and device.type == "cpu":
        if not _triton_is_interpreted:
            return "CPU tensors need Triton's interpreter: set TRITON_INTERPRET=1 before the program starts"
    elif name != device.type and (name, device.type) != ("triton", "cuda"):
        return f"not made for {device.type} tensors"
    return why_not(name)
