"""python -m bench.gpu, as far as it goes without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.cases.feature import Feature
from bench.cases.pair_sums import PairSums
from bench.gpu import checks as gpu_checks
from bench.gpu import session as gpu
from bench.gpu.record import Record
from bench.report import readme as report
from bench.runner import Runner
from bench.timing import isolate
from tests.bench.problems import CPU, QUICK, Unknown


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_benchmark_goes_on_after_a_failure() -> None:
    parts = [
        gpu.Part("pair-sums", (Unknown(20, 4, 8), PairSums(20, 4, 8)), ("metrix_ext", "metrix_ext-graph"), 60),
        gpu.Part("feature", (Feature(12, 3, c=8, side=3, d=8),), ("metrix_ext",), 60),
    ]
    rows = list(gpu.benchmark(lambda limit: Runner(CPU, {}, replace(QUICK, limit=limit)), parts))
    assert [row.status == "ok" for row in rows] == [False, False, True, False, True]
    assert rows[3].status == "unavailable: for a GPU"
    assert rows[2].share is None  # no limits were measured


def test_benchmark_for_a_gpu_asks_for_peers_that_exist() -> None:
    assert all(set(part.peers) <= set(problem.peers) for part in gpu.BENCHMARK for problem in part.problems)


def test_commands_have_a_time_limit() -> None:
    words = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    outcome = gpu_checks.command(words, 2.0)
    assert outcome["status"] == "time limit of 2 s" and "begun" in str(outcome["output"])
    assert gpu_checks.command(["false"], 60)["status"] == "exit status 1"
    assert "no time" in str(gpu_checks.command(["true"], 0)["status"])


@pytest.mark.parametrize(
    ("status", "output", "expected"),
    [
        ("passed", "=== 3 passed, 1 skipped in 2.00s ===\n", "passed"),
        ("passed", "7 skipped in 0.10s\n", "nothing ran"),
        ("exit status 1", "FAILED x\n1 failed, 2 passed in 1.0s\n", "exit status 1"),
        ("exit status 1", "No module named pytest\n", "exit status 1"),
    ],
)
def test_skipped_tests_have_not_passed(status: str, output: str, expected: str) -> None:
    assert gpu_checks.with_summary({"status": status, "output": output})["status"] == expected


def test_sanitizer_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "find_sanitizer", lambda: None)
    ((_, outcome),) = gpu_checks.sanitize(isolate.Deadline(60))
    assert str(outcome["status"]).startswith("not run")
    monkeypatch.undo()
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '2 passed in 1.0s'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert gpu_checks.find_sanitizer() == str(program)
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    outcomes = dict(gpu_checks.sanitize(isolate.Deadline(60)))
    assert {name: outcome["status"] for name, outcome in outcomes.items()} == {
        "memcheck": "passed",
        "racecheck": "passed",
    }


def test_sanitized_tests_exist() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", *gpu_checks.SANITIZED]
    done = subprocess.run(words, cwd=report.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_record_knows_what_failed(tmp_path: Path) -> None:
    record = Record(tmp_path, {"device": "one"})
    record.add("tests", "a", {"status": "passed"})
    record.add("sanitizer", "b", {"status": "not run: it is missing"})
    assert record.passed

    def breaks():
        yield "c", {"status": "passed"}
        raise OSError("gone")

    record.add_all("tests", breaks())
    assert not record.passed
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"]["tests"]["broken off"]["status"] == "OSError: gone"
