"""SIGINT and SIGTERM as a request that is met between two batches, when model and optimizer agree."""

from __future__ import annotations

import signal
from types import FrameType

from .errors import Interrupted


class Interrupt:
    """While active, a first signal is noted and a second one kills at once."""

    def __init__(self) -> None:
        self._received: int | None = None

    def __enter__(self) -> Interrupt:
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self._received is not None:
            raise Interrupted(f"stopped by {signal.Signals(self._received).name}", self._received)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received = number
        signal.signal(number, signal.SIG_DFL)


def ignore_in_worker(_worker: int) -> None:
    """A terminal sends Ctrl-C to the loader's workers too; the main process ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
