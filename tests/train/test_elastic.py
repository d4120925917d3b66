"""torchrun starts all processes anew when one is killed, and the run goes on from its checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.train.runs import ROOT, check_same, finish, start_together
from tests.train.test_processes import options

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")


def rank_processes(agent: int) -> list[int]:
    with open(f"/proc/{agent}/task/{agent}/children") as file:
        return [int(number) for number in file.read().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes of torchrun in /proc")
def test_a_rank_that_is_killed_is_started_again(archive, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for process in start_together(2, *options(archive, whole, "--epochs", 4)):
        assert finish(process)[0] == 0
    agent = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1",
         ROOT / "train" / "run.py", *map(str, options(archive, broken, "--epochs", 4, "--resume"))],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not (broken / "checkpoint.pt").exists():
        assert agent.poll() is None, agent.communicate()[0]
        time.sleep(0.02)
    os.kill(rank_processes(agent.pid)[1], signal.SIGKILL)
    told, _ = agent.communicate(timeout=300)
    assert agent.returncode == 0, told
    assert "goes on after epoch" in told
    check_same(broken, whole)
