"""anchor_sums on the emulated device: what test_every_op.py leaves out, and the launches of both ops over mixes."""

from __future__ import annotations

import math

import pytest
import torch

from metrix_ext import reference
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.emulation.checks import check
from tests.emulation.device import emulated
from tests.emulation.device.emulated import tiny_blocks
from tests.support.compare import assert_elements_near
from tests.support.mixes_problems import CLASS_SIZES, feature_maps, random_mixes, relations, sums_problem
from tests.support.op_checks import (
    check_native_half,
    check_same,
    evaluate,
    evaluate_reference,
    in_half,
    results,
)
from tests.support.ops import ANCHOR_SUMS
from tests.support.problems import RHO

HALF_TYPES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("layout", list(CLASS_SIZES))
@pytest.mark.parametrize("both_orders", [True, False], ids=["both orders", "ordered"])
def test_sums_of_class_layouts(device: emulated.Device, pairs: str, layout: str, both_orders: bool) -> None:
    arguments = sums_problem(pairs, "exp", CLASS_SIZES[layout], both_orders=both_orders, dim=12)
    check(device, ANCHOR_SUMS, arguments, [torch.float32])


@tiny_blocks
@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("who", ["examples", "mask"])
def test_sums_of_several_blocks(device: emulated.Device, pairs: str, who: str) -> None:
    many = (19, 2, 1, 7, 5, 9)
    check(device, ANCHOR_SUMS, sums_problem(pairs, "exp", many, who, dim=7), [torch.float32])
    check(device, ANCHOR_SUMS, sums_problem(pairs, "linear", many, who, shuffle=True, dim=4), [torch.float32])


@pytest.mark.parametrize("pairs", ["pos-neg", "neg-neg"])
@pytest.mark.parametrize("size", [2, 3, 128, 130, 260, 1028])
def test_sums_by_size(device: emulated.Device, pairs: str, size: int) -> None:
    check(device, ANCHOR_SUMS, sums_problem(pairs, dim=size))


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_sums_of_half_types(device: emulated.Device, dtype: torch.dtype, pairs: str) -> None:
    for size, normalize in ((8, True), (5, False)):
        arguments = sums_problem(pairs, dim=size, normalize=normalize)
        device.run_backwards(False)
        found = check_native_half(ANCHOR_SUMS, arguments, dtype, 4e-3)
        device.run_backwards(True)
        check_same(results(ANCHOR_SUMS, anchor_sums, in_half(ANCHOR_SUMS, arguments, dtype)), found, "in another order")


def test_the_norm_is_a_constant_at_its_floor(device: emulated.Device) -> None:
    arguments = sums_problem("pos-neg", "nca", CLASS_SIZES["pairs"], dim=6)
    mixed = arguments["mixed"]
    mixed[1], mixed[4] = 0.0, 1e-14 * mixed[4]
    found, right = evaluate(ANCHOR_SUMS, arguments), evaluate_reference(ANCHOR_SUMS, arguments)
    for name, t in right.items():
        assert_elements_near(found[name], t, 1e-11, 1e-11, name)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", "linear"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_in_not_finite_out(device: emulated.Device, pairs: str, rho: str, bad: float) -> None:
    relation, m, n = relations(CLASS_SIZES["ragged"], "examples")
    mixes = random_mixes(n, False, torch.float64)
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(len(mixes), 6, generator=generator, dtype=torch.float64)
    anchors = torch.randn(m, 6, generator=generator, dtype=torch.float64)
    is_bad = (mixes.first == 1) & (mixes.second == 2) if pairs in ("pos-pos", "anc-pos") else mixes.second == n - 1
    if pairs == "neg-neg":
        is_bad &= mixes.first == 1
    others = torch.where(is_bad[:, None], -mixed, mixed)
    rest = pairs, mixes, True, False
    before, after = (reference.anchor_sums(x, anchors, relation, RHO["nca"], *rest)[0] for x in (mixed, others))
    used = (before != after).any(1)
    clean = anchor_sums(mixed, anchors, relation, RHO[rho], *rest)[0]
    mixed[is_bad] = bad
    sums = anchor_sums(mixed, anchors, relation, RHO[rho], *rest)[0]
    assert used.any()
    assert torch.equal(sums.isnan().any(1), used)
    assert torch.equal(sums[~used], clean[~used])


def test_number_of_launches_at_a_batch_of_100(device: emulated.Device) -> None:
    relation, m, n = relations((5,) * 20, "examples")
    mixes = random_mixes(n, False, torch.float32)
    features = feature_maps(n, 1, 1, 1, "contiguous").float().requires_grad_()
    before = device.launches()
    pooled = mix_pool(features, torch.arange(n), mixes)
    pooled_at = device.launches()
    sums, _ = anchor_sums(pooled, torch.rand(m, 1), relation, RHO["nca"], "pos-neg", mixes, True, True)
    summed_at = device.launches()
    sums.sum().backward()
    assert (pooled_at - before, summed_at - pooled_at, device.launches() - summed_at) == (1, 3, 6)
