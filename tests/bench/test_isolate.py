"""Functions in processes with limits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.timing import isolate
from bench.timing.isolate import Failed
from tests.bench.problems import takes_memory


def answers(report: isolate.Report, x: int) -> int:
    report("thinking")
    return 2 * x


def raises(report: isolate.Report) -> None:
    report("forward")
    raise ValueError("no such thing")


def sleeps(report: isolate.Report, pid_file: str) -> None:
    report("backward")
    child = subprocess.Popen(["sleep", "60"])
    Path(pid_file).write_text(str(child.pid))
    time.sleep(60)


def is_killed(report: isolate.Report) -> None:
    report("forward")
    os.kill(os.getpid(), signal.SIGKILL)


def test_process_gives_its_result() -> None:
    assert isolate.run(answers, 21, seconds=60) == 42


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, "ValueError: no such thing in forward"),
        (takes_memory, "out of memory in forward"),
        (is_killed, "killed (out of memory?) in forward"),
    ],
)
def test_what_ends_a_process_is_said_with_where(function: Callable[..., None], said: str) -> None:
    with pytest.raises(Failed) as failure:
        isolate.run(function, seconds=60, memory=2**30)
    assert str(failure.value) == said


def test_time_limit_ends_what_the_process_has_started_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    isolate.run(answers, 0, seconds=60)  # the server is up
    for seconds in (3, 12, 48):  # longer, if the process did not get that far beside a second worker
        with pytest.raises(Failed, match=f"time limit of {seconds} s in ") as failure:
            isolate.run(sleeps, str(pid_file), seconds=seconds)
        if pid_file.exists():
            break
    assert str(failure.value).endswith("in backward")
    with pytest.raises(ProcessLookupError):
        _until_gone(int(pid_file.read_text()))


def _until_gone(pid: int) -> None:
    for _ in range(100):
        os.kill(pid, 0)
        time.sleep(0.05)


def test_no_process_without_time() -> None:
    with pytest.raises(Failed, match="no time was left"):
        isolate.run(answers, 1, seconds=0)
