"""anchor_sums on tensor cores, on the emulated device: embeddings in bfloat16 of a size that tiles take."""

from __future__ import annotations

import pytest
import torch

from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.emulation.device import emulated
from tests.emulation.device.emulated import tiny_blocks
from tests.support.mixes_problems import CLASS_SIZES, WHO, sums_problem
from tests.support.op_checks import Arguments, check_native_half, check_same, in_half, results
from tests.support.ops import ANCHOR_SUMS

MANY = (19, 2, 1, 7, 5, 9)  # more mixes than a tile has rows, and with 43 examples more anchors than columns


def check(device: emulated.Device, arguments: Arguments) -> None:
    """Against the reference, and the same bits with blocks and threads from last to first."""
    device.run_backwards(False)
    found = check_native_half(ANCHOR_SUMS, arguments, torch.bfloat16, 4e-3)
    device.run_backwards(True)
    again = results(ANCHOR_SUMS, anchor_sums, in_half(ANCHOR_SUMS, arguments, torch.bfloat16))
    check_same(again, found, "in another order")


@pytest.mark.parametrize(
    ("pairs", "who"),
    [*((pairs, "examples") for pairs in PAIR_SETS), *(("pos-neg", who) for who in WHO[1:]), ("anc-pos", "mask")],
)
def test_every_set_and_anchor(device: emulated.Device, pairs: str, who: str) -> None:
    rho, both_orders = ("exp", True) if pairs in ("pos-neg", "pos-pos") else ("linear", False)
    check(device, sums_problem(pairs, rho, CLASS_SIZES["ragged"], who, both_orders, dim=16))


@pytest.mark.parametrize("device", [True], ids=["tiny blocks"], indirect=True)
@pytest.mark.parametrize(
    ("pairs", "who"),
    [
        ("pos-neg", "examples"),
        ("anc-neg", "mask"),
        *(
            pytest.param(pairs, who, marks=pytest.mark.slow)
            for pairs in PAIR_SETS
            for who in ("examples", "mask")
            if (pairs, who) not in (("pos-neg", "examples"), ("anc-neg", "mask"))
        ),
    ],
)
def test_several_tiles_and_blocks(device: emulated.Device, pairs: str, who: str) -> None:
    check(device, sums_problem(pairs, "exp", MANY, who, dim=48))


@pytest.mark.slow
@tiny_blocks
@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("who", ["examples", "mask"])
def test_lists_in_no_order(device: emulated.Device, pairs: str, who: str) -> None:
    check(device, sums_problem(pairs, "linear", MANY, who, both_orders=False, normalize=False, shuffle=True, dim=32))
