"""What holds of every op on the CPU holds of its CUDA kernels: their own source, run thread by thread on the CPU.

Values, gradients, that every element is written, that the bits do not depend on the order of blocks and threads, and
that no thread waits at a barrier which others never reach. What this cannot show is in tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from tests.emulation.checks import check
from tests.emulation.device import emulated
from tests.support.op_checks import Arguments, Op
from tests.support.ops import (
    ANCHOR_SUMS,
    CLASS_ORDER,
    FEATURE_SUMS,
    MEAN_LOSS,
    MIX_POOL,
    PAIR_LAMBDA,
    PAIR_SUMS,
    UNIT_ROWS,
)
from tests.support.ops.anchor_sums import sums_groups

# The ops with CUDA kernels, and what takes too long when threads run one by one.
SMALL = [
    (PAIR_SUMS, lambda name: "-wide" not in name),
    (replace(ANCHOR_SUMS, problems=sums_groups(12)), lambda name: name.endswith("-ragged")),
    (MIX_POOL, lambda name: "(21, " not in name),
    (FEATURE_SUMS, lambda name: "-exp-" in name),
    (UNIT_ROWS, lambda name: True),
    (CLASS_ORDER, lambda name: True),
    (PAIR_LAMBDA, lambda name: True),
    (MEAN_LOSS, lambda name: True),
]


@pytest.mark.parametrize(
    ("op", "make"),
    [
        pytest.param(op, make, id=f"{op.name}-{name}")
        for op, is_small in SMALL
        for name, make in op.problems.items()
        if is_small(name)
    ],
)
def test_values_and_gradients(device: emulated.Device, op: Op, make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check(device, op, arguments)
