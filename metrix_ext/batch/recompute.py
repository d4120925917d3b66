"""Results that backward computes again, to save memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops.tracing import is_transformed


def recomputed(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """function(*args), under torch's checkpoint; torch.func, which has none, keeps what backward needs.

    Args:
        options: as of torch.utils.checkpoint.
    """
    if is_transformed():
        return function(*args)
    return checkpoint(function, *args, use_reentrant=False, **options)


@dataclass(frozen=True)
class RandomState:
    """The state of torch's default generators, of the CPU and of the device of a computation."""

    device: torch.device
    of_cpu: Tensor
    of_device: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        own = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
        return cls(device, torch.get_rng_state(), own)

    def restore(self) -> None:
        """What is drawn from now on is what was drawn from ``now`` on."""
        torch.set_rng_state(self.of_cpu)
        if self.of_device is not None:
            torch.get_device_module(self.device).set_rng_state(self.of_device, self.device)


@contextmanager
def unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Takes back what happens to buffers inside: running statistics that forward has moved already."""
    buffers = list(module.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
