"""pair_sums on a device: the problems of the other backends, and what only a device can show."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metrix_ext.ops import pair_sums
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.gpu.checks import DEVICE, check, check_replay, check_stream, every_problem, on_cuda
from tests.support.compare import assert_near
from tests.support.op_checks import Arguments, check_numerical_gradients, evaluate, prepare
from tests.support.ops import PAIR_SUMS
from tests.support.problems import GIVEN, WINDOWS, check_diagonals, check_with_clean, make_problem

ALL_SETS = ("clean", *PAIR_SETS)

pytestmark = on_cuda


@every_problem(PAIR_SUMS)
def test_values_and_gradients(make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check(PAIR_SUMS, arguments)


@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("masked", [False, True])
def test_several_blocks_and_strips(pairs: str, masked: bool) -> None:
    """The reference mixes for every anchor all pairs of 500 examples, which takes the CPU a minute."""
    problem = make_problem(pairs, "exp", (150, *[1, 2, 7, 40] * 7), masked, pairs != "clean", dim=16)
    check(PAIR_SUMS, problem.arguments(), [torch.float32], truth_on=DEVICE)


@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_windows(pairs: str, rho: str) -> None:
    for window, renormalize in itertools.product(WINDOWS, (False, True)):
        check(PAIR_SUMS, make_problem(pairs, rho, "ragged", False, renormalize).window(*window).arguments())


@pytest.mark.parametrize(("pairs", "given"), GIVEN)
def test_diagonals(pairs: str, given: tuple[str, ...]) -> None:
    for rho in ("nca", "linear"):
        check_diagonals(pairs, rho, given, device=DEVICE)


@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_with_clean(pairs: str) -> None:
    for rho, masked, proxies in itertools.product(("exp", "linear"), (False, True), (False, True)):
        check_with_clean(make_problem(pairs, rho, "wide", masked, proxies=proxies), device=DEVICE)


@pytest.mark.parametrize("pairs", ALL_SETS)
def test_numerical_gradients(pairs: str) -> None:
    check_numerical_gradients(PAIR_SUMS, make_problem(pairs, "nca").arguments(), DEVICE)


def step(arguments: Arguments) -> Tensor:
    """A graph can hold this: no synchronisation, gradients into tensors that stay."""
    sums, _ = pair_sums(**arguments)
    torch.logaddexp(sums, torch.zeros_like(sums)).sum().backward()
    return sums.detach()


@pytest.mark.parametrize("pairs", ALL_SETS)
def test_runs_on_the_current_stream(pairs: str) -> None:
    problem = make_problem(pairs, "exp", "wide", renormalize=pairs != "clean").arguments()
    expected = step(prepare(PAIR_SUMS, problem, torch.float32, DEVICE))
    arguments = prepare(PAIR_SUMS, problem, torch.float32, DEVICE)
    check_stream(arguments["similarity"], lambda: (step(arguments),), (expected,))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pairs", ALL_SETS)
def test_cuda_graph(pairs: str, masked: bool) -> None:
    """Other numbers and other relations in the same memory."""
    options = {"layout": "wide", "masked": masked, "renormalize": pairs != "clean"}
    first = prepare(PAIR_SUMS, make_problem(pairs, "exp", seed=0, **options).arguments(), torch.float32, DEVICE)
    names = [name for name, value in first.items() if isinstance(value, Tensor)]

    def make(seed: int) -> tuple[Tensor, ...]:
        problem = make_problem(pairs, "exp", seed=seed + 1, **options).arguments()
        given = prepare(PAIR_SUMS, problem, torch.float32, DEVICE)
        mask = given["relations"].mask
        return (*(given[name] for name in names), *(() if mask is None else (mask,)))

    def results(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = first | dict(zip(names, tensors, strict=False))
        relations = first["relations"]
        given["relations"] = type(relations)(relations.positives, relations.self_index, tensors[-1] if masked else None)
        given["similarity"].grad = None
        sums = step(given)
        return sums, given["similarity"].grad

    check_replay(make, results)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one device only")
@pytest.mark.parametrize("pairs", ALL_SETS)
def test_another_device_than_the_current_one(pairs: str) -> None:
    with torch.cuda.device(0):
        check(PAIR_SUMS, make_problem(pairs).arguments(), device="cuda:1")
        assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("pairs", ["clean", "pos-neg", "anc-neg", "pos-pos"])
def test_large_batch_agrees_with_double_precision_and_keeps_its_memory(pairs: str) -> None:
    problem = make_problem(pairs, "exp", (32,) * 64, renormalize=pairs != "clean", dim=64).arguments()
    double, single = (evaluate(PAIR_SUMS, problem, dtype, DEVICE) for dtype in (torch.float64, torch.float32))
    for name, expected in double.items():
        assert_near(single[name], expected, 1e-4, name)
    arguments = prepare(PAIR_SUMS, problem, torch.float32, DEVICE)
    used = []
    for _ in range(4):
        step(arguments)
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert used[1] == used[-1]


def test_what_cannot_be_launched_is_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = prepare(PAIR_SUMS, make_problem("clean").arguments(), torch.float32, DEVICE)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "get_device", lambda tensor: torch.cuda.device_count())  # a device that is not there
        with pytest.raises(RuntimeError, match="metrix_ext, CUDA, cudaSetDevice"):
            pair_sums(**arguments)
    torch.zeros(1, device="cuda").add_(1)  # the device still works


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="there is no compute-sanitizer on PATH")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer(tool: str) -> None:
    tests = Path(__file__)
    command = ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", sys.executable, "-m", "pytest", "-q"]
    problems = ("pos-neg-exp-ragged", "clean-exp-ragged", "anc-neg-exp-ragged", "neg-neg-exp-ragged")
    selection = [f"{tests}::test_values_and_gradients[{name}]" for name in (*problems, "pos-neg-exp-ragged-masked")]
    done = subprocess.run(
        [*command, *selection],
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        cwd=tests.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
