"""What every op is checked for on the emulated device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.emulation.device import emulated
from tests.support.op_checks import BOTH, Arguments, Op, check_equivalent, check_same, checked, evaluate


def check(device: emulated.Device, op: Op, arguments: Arguments, dtypes: Sequence[torch.dtype] = BOTH) -> None:
    """Values and gradients against the reference; the same bits with blocks and threads from last to first."""
    device.run_backwards(False)
    before = device.launches()
    for dtype, found in checked(op, arguments, dtypes):
        assert device.launches() > before or not any(found[name].numel() for name in op.outputs if name in found)
        device.run_backwards(True)
        check_same(evaluate(op, arguments, dtype), found, f"{op.name}, {dtype}, in another order")
        device.run_backwards(False)
        check_equivalent(op, arguments, dtype, found)
