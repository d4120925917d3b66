"""Signals, and the checkpoint that they leave."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from tests.train.runs import finish, start

pytest.importorskip("matplotlib")

from train.errors import Interrupted
from train.interrupt import Interrupt


def test_a_signal_is_met_at_the_next_check():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM") as stopped:
            interrupt.check()
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_leaves_a_checkpoint(torchvision, archive, tmp_path, number):
    process = start("--dataset", "npz", "--data", archive, "--epochs", 10000, "--batch-size", 20, "--out", tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.time() + 300  # the first start of torch on a busy machine
    while not (metrics.exists() and metrics.read_text().count("\n") >= 1):
        assert process.poll() is None, process.communicate()
        if time.time() > deadline:
            process.kill()
            pytest.fail("no epoch was finished")
        time.sleep(0.05)
    process.send_signal(number)
    status, _, err = finish(process, timeout=30)
    assert status == 128 + number
    assert err.count("\n") == 1
    assert not (tmp_path / "summary.json").exists()
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    measured = len(metrics.read_text().splitlines())
    assert measured >= 1
    # The signal may come after an epoch was trained and before it was measured.
    assert stored["epoch"] in (measured, measured + 1)
