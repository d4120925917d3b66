"""python -m bench."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command_line
from bench.report import readme as report
from bench.report import results


def test_bad_arguments_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in ((["nothing"], "CASE: nothing"), (["--peers", "nobody"], "--peers: nobody")):
        with pytest.raises(SystemExit) as stopped:
            command_line.parse(arguments)
        assert stopped.value.code == 2 and said in capsys.readouterr().err


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_command_writes_what_it_prints(tmp_path: Path) -> None:
    done = bench(
        "recall", "--quick", "--device=cpu", "--peers=torch", "--rounds=1", "--seconds=0.1", f"--out={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "recall.json").read_text())
    assert {row["peer"] for row in found["rows"]} == {"metrix_ext", "torch"}
    assert all(row["status"] == "ok" for row in found["rows"])
    assert "## recall" in done.stdout and "## recall" in (tmp_path / "results.md").read_text()


@pytest.mark.slow
def test_every_case_runs(tmp_path: Path) -> None:
    done = bench("--quick", "--device=cpu", "--rounds=1", "--seconds=0.1", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    found = results.read(tmp_path)
    assert set(found) == set(command_line.CASES)
    for result in found.values():
        own = [row for row in result.rows if row.peer == "metrix_ext"]
        assert own and all(row.status == "ok" for row in own)
