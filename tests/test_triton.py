"""The Triton backend: its kernels against the reference (triton_cases.py), and compiled ahead of time."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from metrix_ext.ops.pair_sums import PAIR_SETS
from metrix_ext.ops.triton import pair_lambda, pair_sums
from metrix_ext.ops.triton.launch import OPTIONS

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_LIMIT = 16 * 1024  # bytes; none of these targets has less than 64 KiB, so that several programs share a unit

every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.mark.parametrize("part", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_kernels(part: str) -> None:
    """The interpreter has to be chosen before Triton is imported: another process."""
    environment = dict(os.environ)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    cases = Path(__file__).with_name("triton_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "-m", part, str(cases)]
    done = subprocess.run(command, env=environment, cwd=cases.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Compiler:
    """Compiles what is launched, as it is launched, for a target, and does not run it."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target
        self.compiled: list[Any] = []

    def get_current_device(self) -> str:
        return str(self.target)  # Triton keeps compiled kernels by device

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


@pytest.fixture
def compiler(target: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    made = Compiler(TARGETS[target])
    run = JITFunction.run

    def compile_only(kernel: JITFunction, *args: object, **options: object) -> None:
        made.compiled.append(run(kernel, *args, **{**options, "warmup": True}))

    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setattr(driver, "_active", made)
    monkeypatch.setitem(OPTIONS, "num_warps", 2 if target == "gfx942" else 4)  # as on the machine itself
    return made


def compile_pair_sums(
    n: int, dtype: torch.dtype, pairs: str, exponential: bool, renormalize: bool, one_lambda: bool, masked: bool
) -> None:
    """Forward and backward."""

    def tensor(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    with_anchor, mixed = pairs.startswith("anc-"), pairs != "clean"
    args = (
        tensor(n, n),
        tensor(n, 2, dtype=torch.int64),
        tensor(n, dtype=torch.int64),
        tensor(n, n, dtype=torch.int8) if masked else None,
        pairs,
        exponential,
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        (tensor(1) if one_lambda else tensor(n, n)) if mixed else None,
        tensor(n, n) if renormalize else None,
        tensor(n) if renormalize else None,
        tensor(n) if with_anchor else None,
        tensor(n) if with_anchor and renormalize else None,
        0,
    )
    sums, rest = pair_sums.pair_sums(*args)
    pair_sums.pair_sums_backward(sums, sums, rest, *args)


def check(compiled: list[Any]) -> None:
    assert compiled
    for kernel in compiled:
        assert kernel.metadata.shared <= SHARED_LIMIT, kernel.metadata.name
        assert kernel.asm.get("cubin") or kernel.asm.get("hsaco")


@every_target
@pytest.mark.parametrize("pairs", ["clean", "pos-neg", "anc-neg"])
def test_sample_compiles(target: str, pairs: str, compiler: Compiler) -> None:
    compile_pair_sums(20, torch.float32, pairs, True, pairs != "clean", False, False)
    check(compiler.compiled)
    if pairs == "pos-neg":
        # Sums over the rows of a tile, in its inner loop, stay within threads: only one at the end goes through memory.
        cells = next(k for k in compiler.compiled if k.metadata.name == "product_cells")
        assert cells.metadata.shared <= 8 * OPTIONS["num_warps"]


@every_target
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lambda_compiles(target: str, dtype: torch.dtype, compiler: Compiler) -> None:
    for count in (20, 32):
        index = torch.zeros(count, dtype=torch.int64)
        pair_lambda.pair_lambda(torch.zeros((), dtype=torch.int64), index, index, 2.0, dtype)
    check(compiler.compiled)


@pytest.mark.slow
@every_target
@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_compile(target: str, pairs: str, dtype: torch.dtype, compiler: Compiler) -> None:
    """Every variant that can be launched: n = 1, a multiple of 16 and neither are compiled differently."""
    either = (False, True)
    mixed = either if pairs != "clean" else (False,)
    for exponential, renormalize, one_lambda, masked in itertools.product(either, mixed, mixed, either):
        for n in (1, 20, 32):
            compile_pair_sums(n, dtype, pairs, exponential, renormalize, one_lambda, masked)
    check(compiler.compiled)
