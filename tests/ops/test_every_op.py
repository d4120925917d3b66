"""What holds of every op on the CPU: the ops and their problems are in tests/support/ops/."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from metrix_ext import native
from tests.support import op_checks, op_registration
from tests.support.op_checks import BOTH, Arguments, Op
from tests.support.ops import OPS

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))

Make = Callable[[], Arguments]
HALF_TYPES = [torch.float16, torch.bfloat16]


def over(problems: str, ops: Iterable[Op] = OPS) -> pytest.MarkDecorator:
    """A test for every op and each of its problems of that kind."""
    cases = [(op, name, make) for op in ops for name, make in (getattr(op, problems) or op.small).items()]
    return pytest.mark.parametrize(
        ("op", "make"), [pytest.param(op, make, id=f"{op.name}-{name}") for op, name, make in cases]
    )


DIFFERENTIABLE = [op for op in OPS if op.leaves]


@over("problems")
def test_values_and_gradients(op: Op, make: Callable[[], Iterable[Arguments]]) -> None:
    """Against the reference, in memory that is NaN to begin with."""
    for arguments in make():
        op_checks.check_values(op, arguments)


@over("wide")
def test_values_and_gradients_of_long_rows(op: Op, make: Make) -> None:
    op_checks.check_values(op, make())


@over("smooth", DIFFERENTIABLE)
def test_numerical_gradients(op: Op, make: Make) -> None:
    op_checks.check_numerical_gradients(op, make())


@over("small")
def test_registration(op: Op, make: Make) -> None:
    op_registration.check_registration(op, make())


@over("small")
def test_compiles_into_one_graph(op: Op, make: Make) -> None:
    op_registration.check_compiled(op, make())


@pytest.mark.parametrize("dtype", BOTH, ids=str)
@over("large")
def test_same_bits_again_and_for_any_number_of_threads(op: Op, make: Make, dtype: torch.dtype) -> None:
    op_checks.check_threads(op, make(), dtype)


@over("small")
def test_inputs_need_not_be_contiguous(op: Op, make: Make) -> None:
    op_checks.check_strided(op, make())


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@over("small", [op for op in OPS if op.half])
def test_half_inputs_are_computed_in_float32(op: Op, make: Make, dtype: torch.dtype) -> None:
    op_checks.check_half(op, make(), dtype)


@over("smooth", DIFFERENTIABLE)
def test_a_second_derivative_is_refused(op: Op, make: Make) -> None:
    op_checks.check_second_derivative(op, make())


@pytest.mark.parametrize("op", [op for op in OPS if op.bad], ids=lambda op: op.name)
def test_bad_arguments_are_named(op: Op) -> None:
    op_checks.check_bad_arguments(op)


def check_long_rows() -> None:
    """Prints the instruction set, and checks every op with it."""
    print(native.lib().instruction_set())
    for op in OPS:
        for make in op.wide.values():
            op_checks.check_values(op, make())


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_every_instruction_set_gives_the_same_numbers(isa: str) -> None:
    """In a process of its own, since the choice is made once."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", "from tests.ops import test_every_op; test_every_op.check_long_rows()"],
        env={**os.environ, "METRIX_CPU_ISA": isa, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
        cwd=root,
        capture_output=True,
        text=True,
    )
    if "or this processor lacks it" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa
