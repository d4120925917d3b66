"""mix_pool on the CPU: what test_every_op.py, which compares it with the reference, leaves out; the order of pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrix_ext import native
from metrix_ext.ops.mix_pool import add_gradients
from metrix_ext.terms.mixes import TILES, Mixes, all_pairs
from tests.support.mixes_problems import POOL_LAYOUTS, pool_problem
from tests.support.op_checks import check_values, evaluate
from tests.support.ops import MIX_POOL

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))


@given(
    examples=st.integers(0, 12),
    channels=st.integers(1, 70),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    layout=st.sampled_from(POOL_LAYOUTS),
    shuffle=st.booleans(),
    with_averages=st.booleans(),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_shape(examples, channels, height, width, layout, shuffle, with_averages) -> None:
    arguments = pool_problem((examples, channels, height, width), layout, shuffle=shuffle)
    check_values(MIX_POOL, arguments if with_averages else {**arguments, "averages": None})


def test_no_mixes_and_examples_that_none_uses() -> None:
    features, order, mixes, averages = pool_problem((9, 20, 2, 2)).values()
    features[4] = math.nan
    unused = int((order == 4).nonzero())
    for kept in (torch.zeros(36, dtype=torch.bool), (mixes.first != unused) & (mixes.second != unused)):
        some = Mixes.of(mixes.first[kept], mixes.second[kept], mixes.lam[kept], 9)
        arguments = {"features": features, "order": order, "mixes": some, "averages": averages}
        results = evaluate(MIX_POOL, arguments)
        assert all(t.isfinite().all() for t in results.values())
        assert (results["gradient of features"][4] == 0).all()


def test_backward_adds() -> None:
    features, order, mixes, averages = pool_problem((6, 5, 3, 2)).values()
    _, argmax = torch.ops.metrix_ext.mix_pool(features, order, *mixes.tensors, averages, True)
    grad = torch.ones(argmax.shape, dtype=torch.float64)
    once, twice = ((torch.zeros_like(features), torch.zeros_like(averages)) for _ in range(2))
    for into in (once, twice, twice):
        add_gradients(grad, argmax, order, mixes, *into)
    for a, b in zip(once, twice, strict=True):
        assert torch.allclose(2 * a, b)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 3, 5])
def test_not_finite_in_not_finite_out(bad: float, position: int) -> None:
    features, order, mixes, averages = pool_problem((9, 20, 3, 2)).values()
    features = features.to(torch.float32) + 1
    features[4, 7, position // 2, position % 2] = bad
    single = Mixes(mixes.first, mixes.second, mixes.lam.float(), mixes.begin, mixes.uses)
    pooled, argmax = torch.ops.metrix_ext.mix_pool(features, order, *single.tensors, averages.float(), True)
    touched = torch.zeros(pooled.shape, dtype=torch.bool)
    touched[(order[mixes.first] == 4) | (order[mixes.second] == 4), 7] = True
    assert pooled[~touched].isfinite().all()
    weight = torch.where(order[mixes.first] == 4, mixes.lam, 1 - mixes.lam)[touched[:, 7]]
    seen = pooled[touched]
    if math.isnan(bad):
        assert seen.isnan().all()
        assert (argmax[touched] == position).all()
    elif bad > 0:
        assert torch.equal(seen.isinf(), weight > 0)
        assert torch.equal(seen.isnan(), weight == 0)  # 0 times infinity
        assert (argmax[touched] == position).all()
    else:
        assert torch.equal(seen.isnan(), weight == 0)
        assert (argmax[touched][weight > 0] != position).all()


def test_a_map_of_minus_infinity_has_its_maximum_first() -> None:
    features, order, mixes, _ = pool_problem((2, 3, 2, 2)).values()
    features.fill_(-math.inf)
    mixes.lam.fill_(0.5)
    pooled, argmax = torch.ops.metrix_ext.mix_pool(features, order, *mixes.tensors, None, True)
    assert (pooled == -math.inf).all()
    assert (argmax == 0).all()


def test_an_example_may_be_mixed_with_itself_and_weights_leave_the_unit_interval() -> None:
    features, order, _, averages = pool_problem((5, 20, 2, 2)).values()
    first, second = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 1, 3, 2, 0])
    lam = torch.tensor([0.25, 1.0, 1.5, -0.5, 0.0], dtype=torch.float64)
    mixes = Mixes.of(first, second, lam, 5)
    check_values(MIX_POOL, {"features": features, "order": order, "mixes": mixes, "averages": averages})


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5, 16, 47, 64, 100])
def test_all_pairs_come_tile_by_tile(n: int, ordered: bool) -> None:
    """Each pair once; whole tiles of 32 x 32 examples first, then smaller ones, so that kernels share rows."""
    first, second = all_pairs(n, ordered, torch.device("cpu"))
    expected = {(i, j) for i in range(n) for j in range(n) if (i != j if ordered else i < j)}
    listed = list(zip(first.tolist(), second.tolist(), strict=True))
    assert len(listed) == len(expected)
    assert set(listed) == expected
    halves = 1 if ordered else 2
    for side in TILES:
        # Quarters of quarters: of a pair's number in its tile the last two bits are of the column and two of the row,
        # and then in turn one of the column and one of the row.
        bits = [torch.arange(side**2) >> k & 1 for k in range(10)]
        row = bits[2] + 2 * bits[3] + 4 * bits[5] + 8 * bits[7] + 16 * bits[9]
        column = bits[0] + 2 * bits[1] + 4 * bits[4] + 8 * bits[6] + 16 * bits[8]
        for begin in range(0, (n // side) * (n // side - 1) // halves * side**2, side**2):
            rows, columns = first[begin : begin + side**2], second[begin : begin + side**2]
            assert torch.equal(rows, rows[0] + row)
            assert torch.equal(columns, columns[0] + column)
            assert rows[0] % side == columns[0] % side == 0
