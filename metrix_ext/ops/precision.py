"""Products of matrices in the precision of their type, whatever the user allows for those of the network."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

import torch

from .autocast import without_autocast


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """In it, products on the device are those of the type: no autocast, and float32 in neither TF32 nor bfloat16.

    ``torch.set_float32_matmul_precision("high")`` would leave a similarity 11 bits, an error of 2e-5, and gamma = 75
    make one of 0.1 % of a term out of that. A graph of torch.compile has no such setting in it: there only what runs in
    ops of this package, which are called as they are, is in full precision.
    """
    switch = None if torch.compiler.is_compiling() else _SWITCHES.get(device.type)
    return without_autocast(device) if switch is None else _FullPrecision(switch, without_autocast(device))


class _Switch:
    """The setting of a kind of device. All threads share it: the first to need it turns it, the last turns it back."""

    def __init__(self, matmul: Any) -> None:
        self._matmul = matmul
        self._lock = threading.Lock()
        self._inside = 0
        self._before = ""

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                # torch.get_float32_matmul_precision() would raise once a user has set this for one kind of device.
                self._before = self._matmul.fp32_precision
                self._set("ieee")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._before)

    def _set(self, precision: str) -> None:
        if self._before not in ("none", "ieee"):  # otherwise products are exact already
            self._matmul.fp32_precision = precision


_SWITCHES = {
    "cuda": _Switch(torch.backends.cuda.matmul),
    "cpu": _Switch(torch.backends.mkldnn.matmul),  # type: ignore[attr-defined]
}


class _FullPrecision:
    def __init__(self, switch: _Switch, autocast: AbstractContextManager[object]) -> None:
        self._switch = switch
        self._autocast = autocast

    def __enter__(self) -> None:
        self._switch.enter()
        self._autocast.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._autocast.__exit__(*error)
        self._switch.leave()
