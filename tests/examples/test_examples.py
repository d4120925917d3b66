"""Every example runs as it stands, and learns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "with_pytorch_metric_learning.py"


def recalls(*command: object) -> dict[str, tuple[float, float]]:
    """Recall@1 before and after, of everything that the example trains."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^(.+): Recall@1 ([\d.]+) -> ([\d.]+)$", done.stdout, re.MULTILINE)
    return {name: (float(before), float(after)) for name, before, after in lines}


def test_wrappers_of_pytorch_metric_learning() -> None:
    pytest.importorskip("pytorch_metric_learning")
    found = recalls(SCRIPT)
    assert list(found) == ["CrossBatchMemory", "MultipleLosses, a miner, proxies", "SelfSupervisedLoss"]
    for name, (before, after) in found.items():
        assert before < 0.2 < 0.4 < after, name


@pytest.mark.slow
def test_wrapper_of_two_processes() -> None:
    pytest.importorskip("pytorch_metric_learning")
    found = recalls("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, SCRIPT)
    assert list(found) == ["DistributedLossWrapper", "DistributedLossWrapper, CrossBatchMemory"]
    for name, (before, after) in found.items():
        assert before < 0.2 < 0.4 < after, name
