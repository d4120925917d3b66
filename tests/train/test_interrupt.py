"""Signals, and the checkpoint that they leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time

import pytest
import torch

from tests.train.runs import finish, start

pytest.importorskip("matplotlib")

from train.errors import Interrupted, UserError
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


class Endless(torch.utils.data.Dataset):
    """Its third item is a pipe that nobody writes to, or, told so, the end of the process that reads it."""

    def __init__(self, pipe, killed=False):
        self.pipe, self.killed = str(pipe), killed

    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i == 2 and self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return i if i < 2 else len(open(self.pipe, "rb").read())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_ends_a_read_that_is_blocked(tmp_path, workers):
    os.mkfifo(tmp_path / "pipe")
    loader = torch.utils.data.DataLoader(Endless(tmp_path / "pipe"), batch_size=1, num_workers=workers)
    sender = subprocess.Popen(["sh", "-c", f"sleep 2; kill -TERM {os.getpid()}"])
    began = time.time()
    with Interrupt() as interrupt, pytest.raises(Interrupted, match="SIGTERM"):
        list(interrupt.batches(loader))
    assert sender.wait() == 0
    assert time.time() - began < 60  # busy machines; it would be for ever
    assert multiprocessing.active_children() == []


def test_a_signal_during_a_batch_waits_for_its_end(tmp_path):
    loader = torch.utils.data.DataLoader(Endless(tmp_path / "pipe"), batch_size=1)
    with Interrupt() as interrupt:
        batches = interrupt.batches(loader)
        assert int(next(batches)) == 0
        os.kill(os.getpid(), signal.SIGTERM)  # an exception here would leave a step half done
        with pytest.raises(Interrupted):
            next(batches)


def test_a_loaders_process_that_dies_is_one_line(tmp_path):
    loader = torch.utils.data.DataLoader(Endless(tmp_path / "pipe", killed=True), batch_size=1, num_workers=1)
    with Interrupt() as interrupt, pytest.raises(UserError, match=r"DataLoader worker .*fewer --workers"):
        list(interrupt.batches(loader))


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
