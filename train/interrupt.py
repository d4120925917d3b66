"""SIGINT and SIGTERM as a request that is met between two batches, when model and optimizer agree."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from .errors import Interrupted, dead_worker

_HAS_TIMER = hasattr(signal, "setitimer")  # not on Windows


class Interrupt:
    """While active, a first signal is noted, or ends the wait for a batch; a second one kills at once."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._waiting = False

    def __enter__(self) -> Interrupt:
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        if _HAS_TIMER:
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._remind)
        return self

    def __exit__(self, *_: object) -> None:
        self._set_reminder(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self._received is not None:
            raise Interrupted(f"stopped by {signal.Signals(self._received).name}", self._received)

    def batches(self, loader: DataLoader) -> Iterator[Any]:
        """The batches of the loader. Raises Interrupted between two of them, also when the next one never comes."""
        iterator = iter(loader)
        try:
            while (batch := self._next(iterator)) is not None:
                yield batch
        except Interrupted:
            self._set_reminder(0)
            # The loader would first wait for its processes, of which one may be blocked.
            for process in multiprocessing.active_children():
                process.terminate()
            raise

    def _next(self, batches: Iterator[Any]) -> Any:
        self._waiting = True  # before the check: a signal that comes between the two raises as well
        try:
            self.check()
            return next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:
            self.check()  # a signal to all processes of the run has ended the loader's
            raise (dead_worker(error) or error) from None
        finally:
            self._waiting = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received = number
        signal.signal(number, signal.SIG_DFL)
        self._set_reminder(0.5)
        self._remind()

    def _remind(self, *_: object) -> None:
        if self._waiting:
            self.check()

    @staticmethod
    def _set_reminder(seconds: float) -> None:
        """An exception may be lost, in a destructor say, and a signal may come just before a call that then blocks."""
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def ignore_in_worker(_worker: int) -> None:
    """A terminal sends Ctrl-C to the loader's workers too; the main process ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
