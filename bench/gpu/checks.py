"""Tests on a GPU and compute-sanitizer, as commands that may take so long."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..timing.environment import ROOT
from ..timing.isolate import Deadline
from .record import Outcome

TAIL = 4000  # characters kept of what a command has printed

TESTS = (
    *(f"tests/gpu/test_{name}.py" for name in ("pair_sums", "mix_pool", "anchor_sums", "batch_ops", "metrix")),
    "tests/triton_kernels/test_triton.py",
)
TEST_SECONDS = 110.0
SANITIZED = tuple(
    f"tests/gpu/{name}"
    for name in (
        "test_pair_sums.py::test_values_and_gradients[clean-exp-ragged]",
        "test_pair_sums.py::test_values_and_gradients[pos-neg-exp-ragged]",
        "test_pair_sums.py::test_values_and_gradients[pos-neg-exp-ragged-masked]",
        "test_pair_sums.py::test_values_and_gradients[anc-neg-exp-ragged]",
        "test_pair_sums.py::test_values_and_gradients[neg-neg-exp-ragged]",
        "test_mix_pool.py::test_pool[(9, 5, 3, 3)-tiles-channels_last-torch.float32]",
        "test_mix_pool.py::test_pool[(9, 5, 3, 3)-shuffled-contiguous-torch.bfloat16]",
        *(
            f"test_anchor_sums.py::test_values_and_gradients[{problem}-{layout}]"
            for problem in ("pos-neg-exp-examples-both orders", "neg-neg-exp-mask-ordered")
            for layout in ("one", "two", "singletons", "ragged", "pairs", "tiles")
        ),
    )
)
SANITIZER_SECONDS = 60.0


def command(words: list[str], seconds: float, **variables: str) -> Outcome:
    """Runs a command in the repository for at most so many seconds: its status and the end of what it has printed."""
    if seconds < 1:
        return {"status": "not run: no time was left"}
    begin = time.monotonic()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        status = "passed" if process.returncode == 0 else f"exit status {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = f"time limit of {seconds:.0f} s"
    return {"status": status, "seconds": round(time.monotonic() - begin, 1), "output": output[-TAIL:]}


def pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "--maxfail=5", "-p", "no:cacheprovider", "-W", "ignore", *arguments]


def run_tests(deadline: Deadline) -> Iterator[tuple[str, Outcome]]:
    """The test files that need a GPU, or use one where it is."""
    for path in TESTS:
        yield path, with_summary(command(pytest(path), deadline.left(TEST_SECONDS)))


def with_summary(outcome: Outcome) -> Outcome:
    """With pytest's own count of tests: a file of which all are skipped has not passed."""
    counted = re.findall(r"^.*\b\d+ (?:passed|failed|skipped|error).*$", str(outcome.get("output", "")), re.MULTILINE)
    summary = counted[-1].strip("= ") if counted else ""
    if outcome["status"] in ("passed", "exit status 5") and "passed" not in summary:
        return outcome | {"status": "nothing ran", "summary": summary}
    return outcome | {"summary": summary}


def find_sanitizer() -> str | None:
    """compute-sanitizer on PATH, or under a CUDA toolkit."""
    if found := shutil.which("compute-sanitizer"):
        return found
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    toolkits = [Path(home) for home in homes if home] + sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    candidates = [home / folder / "compute-sanitizer" for home in toolkits for folder in ("bin", "compute-sanitizer")]
    return next((str(path) for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def sanitize(deadline: Deadline) -> Iterator[tuple[str, Outcome]]:
    """memcheck and racecheck over small cases of each op."""
    sanitizer = find_sanitizer()
    if sanitizer is None:
        yield "compute-sanitizer", {"status": "not run: it is neither on PATH nor under a CUDA toolkit"}
        return
    for tool in ("memcheck", "racecheck"):
        words = [sanitizer, f"--tool={tool}", "--error-exitcode=9", *pytest(*SANITIZED)]
        yield tool, with_summary(command(words, deadline.left(SANITIZER_SECONDS), PYTORCH_NO_CUDA_MEMORY_CACHING="1"))
