"""Autocast of a device, if it has any: meta tensors have none, and torch refuses the question."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in now, or None where it is off."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return None


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """In it, computations on the device are of the type of what is computed on."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def without_autocast_cache(device: torch.device) -> AbstractContextManager[object]:
    """In it, weights are cast each time they are used.

    A cache hands what was cast without a graph to computations that need the gradients of the weights, in releases of
    torch without pytorch/pytorch pull request 165068.
    """
    dtype = autocast_dtype(device)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype, cache_enabled=False)
