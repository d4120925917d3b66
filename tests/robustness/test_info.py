"""``python -m metrix_ext.info`` calls available what can run on the tensors at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def reported(name: str, **variables: str) -> str:
    """The line of a backend."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "metrix_ext.info"]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in output.splitlines() if line.startswith(f"backend {name}:"))
    return line


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton runs on the GPU here")
def test_triton_without_a_gpu_and_without_its_interpreter_is_unavailable() -> None:
    line = reported("triton", TRITON_INTERPRET="0")
    assert "unavailable" in line and ("TRITON_INTERPRET=1" in line or "not installed" in line), line


@pytest.mark.parametrize("answer", ["exit 1", "echo no version", "kill -9 $$"])
def test_a_failing_nvcc_names_the_way_without_it(tmp_path: Path, answer: str) -> None:
    """In one line, where nvcc is there and does not work, whatever it does."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\n{answer}\n")
    nvcc.chmod(0o755)
    environment = {**os.environ, "METRIX_CUDA": "1", "CUDACXX": str(nvcc)}
    environment.pop("METRIX_CUDA_ARCHITECTURES", None)
    command = [sys.executable, "setup.py", "-q", "build_ext", "-b", str(tmp_path), "-t", str(tmp_path / "temporary")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "METRIX_CUDA=0" in done.stderr and "Traceback" not in done.stderr, done.stderr[-2000:]
