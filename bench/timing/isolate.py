"""Runs a function in a process of its own, with limits: what runs out of memory or time there ends nothing else."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Report = Callable[[str], None]

# A server that has imported these forks every process: cheap, and no thread pool has been started in it yet.
PRELOAD = ["bench.timing.work"]


class Failed(Exception):
    """What ended the process before it had a result, and in which stage."""


class Unavailable(Exception):
    """A peer cannot do a problem here; the message says why."""


class Deadline:
    """Seconds that are left of a total."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, at_most: float = float("inf")) -> float:
        return max(0.0, min(at_most, self._end - time.monotonic()))


def run(
    function: Callable[..., Any],
    *arguments: object,
    seconds: float,
    memory: int | None = None,
    method: str = "forkserver",
) -> Any:
    """``function(report, *arguments)`` in another process.

    Args:
        function: of a module, so that it can be found there; calls ``report`` with what it begins to do.
        seconds: after which the process and all that it has started are ended.
        memory: bytes of address space that it may add to what it begins with.

    Returns:
        What the function has returned, which must pass through a pipe.

    Raises:
        Failed: there is no result; the message says why, and where.
    """
    if seconds < 1:
        raise Failed("not run: no time was left")
    context: Any = multiprocessing.get_context(method)  # typeshed: contexts have a Process, their base has not
    if method == "forkserver":
        context.set_forkserver_preload(PRELOAD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments, seconds, memory))
    process.start()
    sender.close()
    stage = "start"
    deadline = time.monotonic() + seconds
    try:
        while True:
            if not receiver.poll(max(0.0, deadline - time.monotonic())):
                raise Failed(f"time limit of {seconds:g} s in {stage}")
            try:
                kind, value = receiver.recv()
            except EOFError:
                process.join()
                raise Failed(f"{_how_it_ended(process.exitcode)} in {stage}") from None
            if kind == "stage":
                stage = value
            elif kind == "unavailable":
                raise Failed(f"unavailable: {value}")
            elif kind == "failure":
                raise Failed(f"{value} in {stage}")
            else:
                return value
    finally:
        receiver.close()
        _end(process)


def _child(
    sender: Connection, function: Callable[..., Any], arguments: tuple[object, ...], seconds: float, memory: int | None
) -> None:
    os.setsid()
    signal.alarm(int(seconds) + 10)  # if whoever should end this process has ended first
    try:
        if memory is not None:
            limit = _address_space() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        result = function(lambda stage: sender.send(("stage", stage)), *arguments)
    except Unavailable as error:
        sender.send(("unavailable", str(error)))
    except Exception as error:
        sender.send(("failure", reason(error)))
    else:
        sender.send(("result", result))


def reason(error: BaseException) -> str:
    """Why something failed, in a line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "out of memory"
    return f"{type(error).__name__}: {text[:160]}"


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed (out of memory?)"
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def _end(process: Any) -> None:
    """The process and those that it has started."""
    process.join(0.5)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()  # it had not become the leader of its group yet
    process.join()
