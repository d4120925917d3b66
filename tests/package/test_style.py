"""ruff, mypy, import-linter and clang-format, as CONTRIBUTING.md asks for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(str(p) for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".cu"))


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ruff", ["check", "."]),
        ("ruff", ["format", "--check", "metrix_ext", "bench", "setup.py"]),
        pytest.param("mypy", [], marks=pytest.mark.long),
        ("lint-imports", []),
        ("clang-format", ["--dry-run", "-Werror", *SOURCES]),
    ],
)
def test_style(tool: str, arguments: list[str]) -> None:
    program = shutil.which(tool, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
