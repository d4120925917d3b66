"""The CPU part built with AddressSanitizer and UndefinedBehaviorSanitizer runs the tests of the ops: no report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
COMPILER = shutil.which("g++")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="there is no g++ on PATH")]


def runtime(name: str) -> str:
    """The library of a sanitizer, which has to be loaded before Python."""
    command = [str(COMPILER), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose extension is built with both."""
    copy = tmp_path_factory.mktemp("sanitized") / "repository"
    left_out = shutil.ignore_patterns(".git", "*.so", "build", "__pycache__", "docs")
    shutil.copytree(ROOT, copy, ignore=left_out)
    flags = {"CXX": str(COMPILER), "CXXFLAGS": FLAGS, "LDFLAGS": FLAGS, "METRIX_CUDA": "0"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=copy, env={**os.environ, **flags}, check=True)
    return copy


@pytest.mark.parametrize("tests", ["tests/ops", "tests/robustness/test_infinities.py"])
def test_no_report(sanitized: Path, tests: str) -> None:
    """Leaks are left out: Python and PyTorch keep what they have until the end."""
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')} {runtime('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=77",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=77",
        "OMP_NUM_THREADS": "2",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", tests]
    done = subprocess.run(command, cwd=sanitized, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert "ERROR: AddressSanitizer" not in output and "runtime error:" not in output, output[-4000:]
    assert done.returncode in (0, 1), output[-4000:]  # 1: a test failed, which is for that test to say
