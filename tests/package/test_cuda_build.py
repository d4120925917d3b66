"""What the compiler says of the CUDA kernels on every architecture: no warnings, no spills, no local memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CUDA = Path(__file__).parents[2] / "csrc" / "cuda"
NVCC = shutil.which("nvcc")
COMPILE = [NVCC or "nvcc", "-std=c++20", "-DMETRIX_CUDA", f"-I{CUDA.parent}", "-Werror=all-warnings"]

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="there is no nvcc on PATH")

REPORT = re.compile(
    r"Compiling entry function '(?P<name>\S+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)
# Registers of a thread that let as many blocks share a multiprocessor as the launch bounds ask for.
MOST_REGISTERS = {"sum_pairsIfNS0_14ExponentialSum": 102, "pair_gradientsIf": 128}


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("source", sorted(str(path.relative_to(CUDA)) for path in CUDA.rglob("*.cu")))
def test_no_spills(tmp_path: Path, source: str, architecture: str) -> None:
    command = [*COMPILE, "-O3", f"-arch={architecture}", "-cubin", "-Xptxas=-v"]
    done = subprocess.run(
        [*command, str(CUDA / source), "-o", str(tmp_path / "kernels.cubin")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kernels = [match.groupdict() for match in REPORT.finditer(done.stderr)]
    assert kernels
    for kernel in kernels:
        used = {what: int(kernel[what]) for what in ("stack", "stores", "loads", "registers")}
        assert (used["stack"], used["stores"], used["loads"]) == (0, 0, 0), (kernel["name"], used)
        for name, most in MOST_REGISTERS.items():
            if name in kernel["name"]:
                assert used["registers"] <= most, (kernel["name"], used)


@pytest.mark.slow
@needs_nvcc
def test_ptx_for_later_architectures(tmp_path: Path) -> None:
    for source in CUDA.rglob("*.cu"):
        command = [*COMPILE, "-arch=compute_80", "-ptx"]
        subprocess.run([*command, str(source), "-o", str(tmp_path / "kernels.ptx")], check=True)


def test_an_nvcc_without_cpp20_is_named(tmp_path: Path) -> None:
    old = tmp_path / "nvcc"
    old.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 11.8, V11.8.89'\n")
    old.chmod(0o755)
    build = ["build_ext", "--build-temp", str(tmp_path / "t"), "--build-lib", str(tmp_path / "l")]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *build],
        cwd=CUDA.parents[1],
        env={**os.environ, "METRIX_CUDA": "1", "CUDACXX": str(old)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    expected = f"metrix_ext: METRIX_CUDA=1 but {old} is older than 12.0, the first that knows C++20"
    assert done.stderr.strip().splitlines()[-1] == expected
