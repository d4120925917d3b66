"""Tensors that depend on sizes alone and are made once, for all streams, graphs and inference mode."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """A function of sizes and a device that keeps the results of its last calls.

    Every stream of a GPU has its own: kernels of another would read what this one has yet to write, or, once it is no
    longer kept, what this one writes there next. A graph that is being captured reads what was made before on any
    stream, and that stays for good, since it is read at each replay; what has to be made in a capture is not kept, as
    there is nothing in it before the graph runs. What is made is no inference tensor, so that backward may save it.
    """

    def __init__(self, make: Callable[..., Made], size: int) -> None:
        """``make`` takes the device last; ``size`` calls are kept."""
        self._make = make
        self._size = size
        self._lock = threading.Lock()
        self._results: OrderedDict[tuple[tuple[Any, ...], int], Made] = OrderedDict()  # the last used last
        self._in_graphs: dict[tuple[Any, ...], Made] = {}

    def __call__(self, *arguments: Any) -> Made:
        device = arguments[-1]
        if _is_capturing(device):
            return self._for_graph(arguments)
        key = arguments, _stream(device)
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        made = self._outside_inference_mode(arguments)
        with self._lock:
            self._results[key] = made
            if len(self._results) > self._size:
                self._results.popitem(last=False)
        return made

    def _for_graph(self, arguments: tuple[Any, ...]) -> Made:
        with self._lock:
            for (made_of, _), made in self._results.items():
                if made_of == arguments:
                    self._in_graphs.setdefault(arguments, made)
            if arguments in self._in_graphs:
                return self._in_graphs[arguments]
        return self._outside_inference_mode(arguments)

    def _outside_inference_mode(self, arguments: tuple[Any, ...]) -> Made:
        with torch.inference_mode(False):
            return self._make(*arguments)


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _stream(device: torch.device) -> int:
    """The address of the current stream."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
