"""The compiled part, metrix_ext._C, and why it is missing where it is."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch  # first, so that its OpenMP run time is the one that both use

# enum Element of csrc/mixes.h.
_ELEMENTS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}

_SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}

_module: ModuleType | None = None
_failure: str | None = None

try:
    _module = importlib.import_module("metrix_ext._C")
except ImportError as error:
    _failure = str(error)


def failure() -> str | None:
    """Why the compiled part cannot be used, or None."""
    return None if _failure is None else f"the compiled part of metrix_ext did not load: {_failure}"


def cuda_architectures() -> str:
    """What the CUDA kernels were compiled for, as CMake names it; empty if they were not built."""
    return "" if _module is None else _module.cuda_architectures


def lib() -> ModuleType:
    """The compiled module.

    Raises:
        RuntimeError: it did not load.
    """
    if _module is None:
        raise RuntimeError(failure())
    return _module


def typed(name: str, dtype: torch.dtype) -> Any:
    """The function or class of that name that computes in float32 or float64."""
    return getattr(lib(), f"{name}_{_SUFFIXES[dtype]}")


def element(dtype: torch.dtype) -> int:
    """The number of an element type in the native part."""
    return _ELEMENTS[dtype]
