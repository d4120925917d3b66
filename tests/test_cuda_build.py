"""What the compiler says of the CUDA kernels on every architecture: no warnings, no spills, no local memory."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CUDA = Path(__file__).parents[1] / "csrc" / "cuda"
NVCC = shutil.which("nvcc")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NVCC is None, reason="there is no nvcc on PATH")]

REPORT = re.compile(
    r"Compiling entry function '(?P<name>\S+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)
# Registers of a thread that let as many blocks share a multiprocessor as the launch bounds ask for.
MOST_REGISTERS = {"sum_pairsIfNS0_15ExponentialSums": 102, "pair_gradientsIf": 128}


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("source", sorted(path.name for path in CUDA.glob("*.cu")))
def test_no_spills(tmp_path: Path, source: str, architecture: str) -> None:
    command = [NVCC, "-std=c++17", "-O3", "-DMETRIX_CUDA", f"-arch={architecture}", "-Werror=all-warnings", "-cubin"]
    done = subprocess.run(
        [*command, "-Xptxas=-v", str(CUDA / source), "-o", str(tmp_path / "kernels.cubin")],
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


def test_ptx_for_later_architectures(tmp_path: Path) -> None:
    for source in CUDA.glob("*.cu"):
        command = [NVCC, "-std=c++17", "-DMETRIX_CUDA", "-arch=compute_80", "-Werror=all-warnings", "-ptx"]
        subprocess.run([*command, str(source), "-o", str(tmp_path / "kernels.ptx")], check=True)
