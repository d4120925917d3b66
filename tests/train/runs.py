"""Runs of the driver, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import socket
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


def start_together(count, *arguments):
    """As many processes of one run, as torchrun starts them."""
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    ranks = [{"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(count), **where} for r in range(count)]
    return [start(*arguments, **environment) for environment in ranks]


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


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


def check_same(out, right):
    """Epoch by epoch the same figures, and the same network."""
    assert (out / "metrics.jsonl").read_text() == (right / "metrics.jsonl").read_text()
    ours, theirs = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (out, right))
    assert_same_state(ours, theirs)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (out, right)]
    assert summaries[0]["recall_at"] == summaries[1]["recall_at"]
    assert summaries[0]["recall_at_start"] == summaries[1]["recall_at_start"]


def assert_same_state(ours, theirs):
    """What has been learnt, to the last bit."""
    for learnt in ("model", "weights", "criterion"):  # the second one where an average is measured
        torch.testing.assert_close(ours.get(learnt), theirs.get(learnt), rtol=0, atol=0)
    torch.testing.assert_close(ours["optimizer"]["state"], theirs["optimizer"]["state"], rtol=0, atol=0)
