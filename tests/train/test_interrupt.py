"""Signals, and the checkpoint that they leave."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import time

import pytest
import torch

from tests.train.runs import finish, start

pytest.importorskip("matplotlib")

from train.errors import Interrupted, UserError
from train.interrupt import Interrupt
from train.main import main


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


class Deaf(torch.utils.data.Dataset):
    """Loses whatever is raised while its item is read the first time, as a destructor does."""

    def __len__(self):
        return 1

    def __getitem__(self, i):
        with contextlib.suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return i


def test_a_signal_that_was_lost_comes_again():
    began = time.time()
    with Interrupt() as interrupt, pytest.raises(Interrupted, match="SIGTERM"):
        list(interrupt.batches(torch.utils.data.DataLoader(Deaf(), batch_size=1)))
    assert time.time() - began < 30
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_signal_during_a_batch_waits_for_its_end(tmp_path):
    loader = torch.utils.data.DataLoader(Endless(tmp_path / "pipe"), batch_size=1)
    with Interrupt() as interrupt:
        batches = interrupt.batches(loader)
        assert int(next(batches)) == 0
        os.kill(os.getpid(), signal.SIGTERM)  # an exception here would leave a step half done
        with pytest.raises(Interrupted):
            next(batches)


def batches_of_a_process_that_dies(pipe):
    loader = torch.utils.data.DataLoader(Endless(pipe, killed=True), batch_size=1, num_workers=1)
    # A UserError where a batch is waited for, torch's own for main to see between two.
    with Interrupt() as interrupt, pytest.raises((UserError, RuntimeError), match="DataLoader worker"):
        list(interrupt.batches(loader))
    os._exit(0)  # before the news arrives a second time


def test_a_loaders_process_that_dies_is_missed(tmp_path):
    """In a process of its own: torch raises wherever its main thread is when the news of a death arrives."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=batches_of_a_process_that_dies, args=(tmp_path / "pipe",))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def test_a_loaders_process_that_dies_is_one_line(torchvision, monkeypatch, capsys):
    def run(args):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr("train.experiment.run", run)
    assert main(["--epochs", "1"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"run.py: DataLoader worker .pid 7.*fewer --workers need less memory\n", said)


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
