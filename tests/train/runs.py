"""Runs of the driver, in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SHORT = ("--threads", 1, "--batch-size", 40, "--device", "cpu")


def start(*arguments, **environment):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train" / "run.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def finish(process, timeout=300):
    """Exit status, stdout, stderr; the time is for a busy machine, no bound on the driver's."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()  # or it would go on beside the tests that follow
        process.communicate()
        raise
    return process.returncode, out, err


def run_here(capsys, *arguments):
    """The exit status and the lines on stderr, without the cost of a new process."""
    from train.main import main

    threads = torch.get_num_threads()
    try:
        status = main([str(a) for a in arguments])
    finally:
        torch.set_num_threads(threads)
    return status, capsys.readouterr().err


def command_here(capsys, name, *arguments):
    """The exit status, stdout and stderr of embed, evaluate or export."""
    from train.commands import main

    status = main(name, [str(a) for a in arguments])
    return (status, *capsys.readouterr())


def check_refused(status, err, words):
    assert status == 2
    assert err.count("\n") == 1, err
    assert words in err
    assert "Traceback" not in err
