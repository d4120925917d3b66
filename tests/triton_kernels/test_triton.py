"""The Triton backend: its kernels against the reference (triton_*cases.py), and compiled ahead of time."""

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

from metrix_ext.ops.arguments import AnchorSumsArguments, PairSumsArguments
from metrix_ext.ops.triton import anchor_sums, class_order, mean_loss, mix_pool, pair_lambda, pair_sums, unit_rows
from metrix_ext.ops.triton.launch import OPTIONS
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS, labels_of_sides

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
    "gfx1100": GPUTarget("hip", "gfx1100", 32),
}
# Bytes; none of these targets has less than 64 KiB, so that several programs share a unit.
SHARED_LIMIT = 16 * 1024
PRODUCTS_SHARED_LIMIT = 20 * 1024

every_target = pytest.mark.parametrize("target", TARGETS)


# Of a file, in so many processes: those of the fast cases take 10 to 15 seconds each, so that workers can share them.
PARTS = {"triton_cases.py": 6, "triton_mixes_cases.py": 2, "triton_batch_cases.py": 2, "triton_step_cases.py": 1}


@pytest.mark.parametrize(
    ("file", "part"), [(file, f"{part}/{count}") for file, count in PARTS.items() for part in range(count)]
)
@pytest.mark.parametrize("speed", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_kernels(speed: str, file: str, part: str) -> None:
    """The interpreter has to be chosen before Triton is imported: another process."""
    environment = {**os.environ, "METRIX_TEST_PART": part}
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    cases = Path(__file__).with_name(file)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "-m", speed, str(cases)]
    done = subprocess.run(command, env=environment, cwd=cases.parents[2], capture_output=True, text=True, check=False)
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
    monkeypatch.setitem(OPTIONS, "num_warps", 2 if made.target.backend == "hip" else 4)  # as on the machine itself
    return made


def compile_pair_sums(
    n: int,
    dtype: torch.dtype,
    pairs: str,
    exponential: bool,
    renormalize: bool,
    one_lambda: bool,
    masked: bool,
    on_diagonals: bool = False,
    margin_range: float = 0.0,
) -> None:
    """Forward and backward, that of the clean sums first, as a loss does; what may be on diagonals is given or not."""

    def tensor(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    with_anchor, mixed = pairs.startswith("anc-"), pairs != "clean"
    arguments = PairSumsArguments(
        similarity=tensor(n, n),
        positives=tensor(n, 2, dtype=torch.int64),
        self_index=tensor(n, dtype=torch.int64),
        mask=tensor(n, n, dtype=torch.int8) if masked else None,
        anchors_in_order=False,
        pairs=pairs,
        exponential=exponential,
        rho=[1.0, 0.0, 0.0, margin_range, 1.0, 0.0, 0.0, margin_range],
        lam=(tensor(1) if one_lambda else tensor(n, n)) if mixed else None,
        gram=tensor(n, n) if renormalize else None,
        sqnorm=tensor(n) if renormalize and not on_diagonals else None,
        self_similarity=tensor(n) if with_anchor and not on_diagonals else None,
        self_sqnorm=tensor(n) if with_anchor and renormalize and not on_diagonals else None,
        first_row=0,
        clean_exponential=False,
        clean_rho=[],
    )
    sums, rest = pair_sums.pair_sums(arguments)
    pair_sums.pair_sums_backward(sums, sums, rest, arguments)
    if mixed:
        pair_sums.pair_sums_backward(sums, sums, rest, arguments, onto=arguments.similarity)


def compile_batch_ops(n: int, columns: int, dtype: torch.dtype, kind: str, relu: bool) -> None:
    """class_order, unit_rows and mean_loss, forward and backward."""
    order, _positives, _place = class_order.class_order(torch.zeros(n, dtype=torch.int64))
    unit, norm = unit_rows.unit_rows(torch.empty((n, columns), dtype=dtype), order)
    unit_rows.unit_rows_backward(unit, unit, norm, order)
    sums = torch.empty((n, 2), dtype=dtype)
    for mixed in (None, sums):
        numbers = (mixed, 0.3, kind, [0.5, 1 / 75], relu)
        loss = mean_loss.mean_loss(sums, *numbers)
        mean_loss.mean_loss_backward(loss, sums, *numbers)


def compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def compile_mix_pool(
    channels: int, side: int, dtype: torch.dtype, layout: torch.memory_format, with_argmax: bool, with_averages: bool
) -> None:
    """Forward, and backward where there is an argmax."""
    n, p = 7, 21
    features = torch.empty((n, channels, side, side), dtype=dtype).to(memory_format=layout)
    order, index = torch.zeros(n, dtype=torch.int64), torch.zeros(p, dtype=torch.int64)
    mixes = Mixes(index, index, torch.empty(p, dtype=compute(dtype)), begin=order, uses=index)
    averages = torch.empty((n, channels), dtype=compute(dtype)) if with_averages else None
    pooled = torch.empty((p, channels), dtype=dtype)
    argmax = torch.empty((p, channels), dtype=torch.int16) if with_argmax else None
    mix_pool.mix_pool(features, order, mixes, averages, pooled, argmax)
    if with_argmax:
        mix_pool.mix_pool_backward(pooled, argmax, order, mixes, features.to(compute(dtype)), averages)


def compile_anchor_sums(
    size: int,
    dtype: torch.dtype,
    pairs: str,
    both_orders: bool,
    normalize: bool,
    exponential: bool,
    masked: bool,
    margin_range: float = 0.0,
) -> None:
    """Forward and backward."""
    n, p = 7, 21

    def index(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64)

    few = not masked and pairs != "neg-neg"
    arguments = AnchorSumsArguments(
        mixed=torch.zeros((p, size), dtype=dtype),
        anchors=torch.empty((n, size), dtype=compute(dtype)),
        positives=index(n, 2),
        self_index=index(n),
        mask=torch.empty((n, n), dtype=torch.int8) if masked else None,
        anchor_order=index(n) if few else None,
        anchors_of=index(n, 2) if few else None,
        first=index(p),
        second=index(p),
        lam=torch.empty(p, dtype=compute(dtype)),
        begin=index(n + 1),
        uses=index(2 * p),
        pairs=pairs,
        both_orders=both_orders,
        normalize=normalize,
        exponential=exponential,
        rho=[1.0, 0.0, 0.0, margin_range, 1.0, 0.0, 0.0, margin_range],
    )
    sums, _ = anchor_sums.anchor_sums(arguments)
    anchor_sums.anchor_sums_backward(sums, sums, arguments, arguments.anchors)


def margin_ranges(pairs: str) -> tuple[float, ...]:
    """Without margins that follow the label, and with them where labels differ."""
    return (0.0,) if labels_of_sides(pairs) else (0.0, 0.5)


def check(compiled: list[Any], shared_limit: int = SHARED_LIMIT) -> None:
    assert compiled
    for kernel in compiled:
        assert kernel.metadata.shared <= shared_limit, kernel.metadata.name
        assert kernel.asm.get("cubin") or kernel.asm.get("hsaco")


@every_target
@pytest.mark.parametrize("pairs", ["clean", "pos-neg", "anc-neg"])
def test_sample_compiles(target: str, pairs: str, compiler: Compiler) -> None:
    for margin_range in margin_ranges(pairs):
        compile_pair_sums(20, torch.float32, pairs, True, pairs != "clean", False, False, True, margin_range)
    check(compiler.compiled)
    if pairs == "pos-neg":
        # Sums over the rows of a tile, in its inner loop, stay within threads: only one at the end goes through memory.
        cells = next(k for k in compiler.compiled if k.metadata.name == "product_cells")
        assert cells.metadata.shared <= 8 * OPTIONS["num_warps"]


@every_target
def test_batch_ops_compile(target: str, compiler: Compiler) -> None:
    compile_batch_ops(20, 512, torch.float32, "log1p", False)
    check(compiler.compiled)


@every_target
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lambda_compiles(target: str, dtype: torch.dtype, compiler: Compiler) -> None:
    for count in (20, 32):
        index = torch.zeros(count, dtype=torch.int64)
        pair_lambda.pair_lambda(torch.zeros((), dtype=torch.int64), index, index, 2.0, dtype)
    check(compiler.compiled)


@every_target
def test_mix_pool_compiles(target: str, compiler: Compiler) -> None:
    compile_mix_pool(2048, 7, torch.bfloat16, torch.channels_last, True, True)
    check(compiler.compiled, 0)


@pytest.mark.parametrize(
    "target", [pytest.param(t, marks=() if t in ("sm_90", "gfx942") else pytest.mark.slow) for t in TARGETS]
)
def test_anchor_sums_compiles(target: str, compiler: Compiler) -> None:
    for margin_range in margin_ranges("pos-neg"):
        compile_anchor_sums(512, torch.bfloat16, "pos-neg", True, True, True, False, margin_range)
    check(compiler.compiled, PRODUCTS_SHARED_LIMIT)


every_dtype = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])


@pytest.mark.slow
@every_target
@every_dtype
def test_all_of_mix_pool_compile(target: str, dtype: torch.dtype, compiler: Compiler) -> None:
    """Every variant that can be launched; sizes are 1, a multiple of 16 or neither, and registers follow positions."""
    either = (False, True)
    layouts = (torch.contiguous_format, torch.channels_last)
    for channels, layout, with_argmax, with_averages in itertools.product((1, 20, 2048), layouts, either, either):
        for side in (1, 4, 7, 14) if channels == 2048 else (7,):
            compile_mix_pool(channels, side, dtype, layout, with_argmax, with_averages)
    check(compiler.compiled)


@pytest.mark.slow
@every_target
@every_dtype
@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_all_of_anchor_sums_compile(target: str, dtype: torch.dtype, pairs: str, compiler: Compiler) -> None:
    """Every variant that can be launched; a size of 1, a multiple of 16 and neither are compiled differently."""
    either = (False, True)
    for both_orders, normalize, exponential, masked in itertools.product(either, either, either, either):
        for size, margin_range in itertools.product((1, 20, 512), margin_ranges(pairs)):
            compile_anchor_sums(size, dtype, pairs, both_orders, normalize, exponential, masked, margin_range)
    check(compiler.compiled, PRODUCTS_SHARED_LIMIT)


@pytest.mark.slow
@every_target
@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_compile(target: str, pairs: str, dtype: torch.dtype, compiler: Compiler) -> None:
    """Every variant that can be launched: n = 1, a multiple of 16 and neither are compiled differently."""
    either = (False, True)
    mixed = either if pairs != "clean" else (False,)
    for exponential, renormalize, one_lambda, masked in itertools.product(either, mixed, mixed, either):
        for n, on_diagonals, margin_range in itertools.product((1, 20, 32), mixed, margin_ranges(pairs)):
            variant = exponential, renormalize, one_lambda, masked, on_diagonals, margin_range
            compile_pair_sums(n, dtype, pairs, *variant)
    check(compiler.compiled)


@pytest.mark.slow
@every_target
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_of_batch_ops_compile(target: str, dtype: torch.dtype, compiler: Compiler) -> None:
    for columns, kind, relu in itertools.product((1, 20, 512), ("identity", "log", "log1p"), (False, True)):
        compile_batch_ops(1 if columns == 1 else 20, columns, dtype, kind, relu)
    check(compiler.compiled)
