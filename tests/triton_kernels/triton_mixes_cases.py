"""mix_pool and anchor_sums as Triton kernels against the reference; run by test_triton.py as triton_cases.py is."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metrix_ext.ops.anchor_sums import add_gradients as add_sums
from metrix_ext.ops.arguments import AnchorSumsArguments
from metrix_ext.ops.mix_pool import add_gradients as add_pooled
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.ops.triton import anchor_sums as launches
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.compare import assert_elements_near, assert_near
from tests.support.mixes_problems import CLASS_SIZES, WHO, flat_arguments, pool_problem, sums_problem
from tests.support.op_checks import (
    Arguments,
    Budget,
    Op,
    Results,
    checked,
    evaluate,
    evaluate_reference,
    given_as,
    in_half,
    outputs,
    prepare,
    results,
    upstream,
)
from tests.support.ops import ANCHOR_SUMS, MIX_POOL
from tests.support.problems import WITH_MARGINS
from tests.triton_kernels.on_triton import DEVICE, poisoned_memory, triton_backend  # noqa: F401

RHO = ("exp", "linear")
POOL_BUDGET = Budget(1e-13, 1e-7, factor=2.0)
SUMS_BUDGET = Budget(1e-12, 2e-6, factor=2.0)
half_types = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def half_results(op: Op, arguments: Arguments, half: torch.dtype) -> tuple[Results, Results]:
    """Of inputs in a half type: what the kernels give, and the truth."""
    found = results(op, op.call, in_half(op, arguments, half, DEVICE))
    exact = {name: given_as(value, torch.float64) for name, value in in_half(op, arguments, half).items()}
    return found, evaluate_reference(op, exact)


# ---- mix_pool ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_mix_pool(layout: str, shuffle: bool) -> None:
    arguments = pool_problem((9, 5, 2, 3), layout, ordered=shuffle, shuffle=shuffle)
    list(checked(MIX_POOL, arguments, [torch.float64], DEVICE, POOL_BUDGET))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((5, 300, 1, 2), id="more channels than a program has"),
        pytest.param((5, 3, 9, 9), id="more positions than registers"),
        pytest.param((6, 16, 1, 1), id="one position"),
        pytest.param((8, 1, 3, 1), id="one channel"),
        pytest.param((2, 3, 2, 2), id="one mix"),
        pytest.param((1, 3, 2, 2), id="no mix"),
    ],
)
def test_mix_pool_shapes(shape: tuple[int, int, int, int]) -> None:
    arguments = {**pool_problem(shape), "averages": None}
    list(checked(MIX_POOL, arguments, [torch.float64], DEVICE, POOL_BUDGET))


@half_types
def test_mix_pool_of_half_types_is_rounded_once(dtype: torch.dtype) -> None:
    given, right = half_results(MIX_POOL, pool_problem((9, 20, 2, 2), "channels_last"), dtype)
    # Triton's interpreter does not round to bfloat16 but cuts off.
    cuts_off = DEVICE.type == "cpu" and dtype == torch.bfloat16
    half_ulp = torch.finfo(dtype).eps / (1 if cuts_off else 2)
    assert given["pooled"].dtype == given["gradient of features"].dtype == dtype
    assert given["gradient of averages"].dtype == torch.float32
    assert_elements_near(given["pooled"], right["pooled"], 1.01 * half_ulp, 1e-6)
    for name in ("gradient of features", "gradient of averages"):
        assert_near(given[name], right[name], 2 * half_ulp, name)


def test_mix_pool_in_float32() -> None:
    list(checked(MIX_POOL, pool_problem((9, 20, 2, 2)), [torch.float32], DEVICE, POOL_BUDGET))


def test_first_of_equal_maxima_takes_the_gradient() -> None:
    given = prepare(MIX_POOL, pool_problem((9, 5, 2, 3)), torch.float32, DEVICE)
    features = torch.ones_like(given["features"], requires_grad=True)
    mix_pool(features, given["order"], given["mixes"]).sum().backward()
    assert (features.grad[:, :, 0, 0] > 0).all()
    assert features.grad.flatten(2)[:, :, 1:].abs().max() == 0


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_nan_comes_out_where_it_is_mixed(shuffle: bool, with_gradient: bool) -> None:
    features, order, mixes, _ = pool_problem((9, 5, 2, 3), shuffle=shuffle).values()
    place = torch.arange(len(mixes), device=DEVICE)
    moved_mixes = given_as(mixes, torch.float64, DEVICE)

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = mix_pool(x.requires_grad_(with_gradient), order.to(DEVICE), moved_mixes)
        return pooled.detach(), torch.autograd.grad(pooled, x, upstream(pooled))[0] if with_gradient else x

    before, _ = run(features.to(DEVICE).clone())
    features[order[4], 2, 1, 1] = math.nan
    pooled, gradient = run(features.to(DEVICE))
    expected = torch.zeros_like(pooled, dtype=torch.bool)
    expected[place, 2] = (moved_mixes.first == 4) | (moved_mixes.second == 4)
    assert torch.equal(pooled.isnan(), expected)
    assert torch.equal(pooled[~expected], before[~expected])
    if with_gradient:
        assert gradient[order[4], 2, 1, 1] != 0
        assert gradient[order[4], 2].count_nonzero() == 1


def test_argmax_and_chunks_added_in_place() -> None:
    """The ops as they are called on a part of a list after the other."""
    arguments = pool_problem((9, 5, 2, 3))
    whole = evaluate_reference(MIX_POOL, arguments)
    features, order, mixes, averages = (given_as(t, torch.float64, DEVICE) for t in arguments.values())
    mixed = torch.lerp(features[order[mixes.second]], features[order[mixes.first]], mixes.lam[:, None, None, None])
    expected = F.max_pool2d(mixed, (2, 3), return_indices=True)[1].flatten(1)
    given = torch.ones_like(features), torch.ones_like(averages)
    weight = upstream(whole["pooled"]).to(DEVICE)
    for begin in range(0, len(mixes), 16):
        rows = slice(begin, begin + 16)
        part = Mixes.of(mixes.first[rows], mixes.second[rows], mixes.lam[rows], 9)
        pooled, argmax = torch.ops.metrix_ext.mix_pool(features, order, *part.tensors, averages, True)
        assert torch.equal(argmax.long(), expected[rows])
        torch.testing.assert_close(pooled.cpu(), whole["pooled"][rows])
        add_pooled(weight[rows], argmax, order, part, *given)
    for added, name in zip(given, ("features", "averages"), strict=True):
        torch.testing.assert_close(added.cpu() - 1, whole[f"gradient of {name}"])


# ---- anchor_sums -------------------------------------------------------------------------------------------


def assert_right(arguments: Arguments, dtype: torch.dtype = torch.float64) -> None:
    """float64: the reference. float32: no further from it than the reference in float32, beside a small floor."""
    list(checked(ANCHOR_SUMS, arguments, [dtype], DEVICE, SUMS_BUDGET))


def problem(
    sizes: str = "ragged",
    who: str = "examples",
    pairs: str = "pos-neg",
    rho: str = "exp",
    both_orders: bool = True,
    normalize: bool = True,
    size: int = 5,
    shuffle: bool = True,
) -> Arguments:
    """Mixes of norm 3, or of norm 1 if they are not normalised."""
    arguments = sums_problem(pairs, rho, CLASS_SIZES[sizes], who, both_orders, normalize, shuffle, size)
    generator = torch.Generator().manual_seed(len(arguments["anchors"]) + arguments["mixes"].examples)
    mixed, anchors = (
        F.normalize(torch.randn(arguments[name].shape, generator=generator, dtype=torch.float64))
        for name in ("mixed", "anchors")
    )
    return arguments | {"mixed": mixed * (3 if normalize else 1), "anchors": anchors}


# The sets with the anchor need anchors that are examples.
GRID = [
    case
    for case in itertools.product(CLASS_SIZES, WHO, PAIR_SETS, RHO, (False, True), (False, True))
    if not (case[2].startswith("anc-") and case[1] in ("proxies", "shuffled")) and case[0] != "tiles"
]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if k % 17 == 0 else pytest.mark.slow) for k, case in enumerate(GRID)], ids=str
)
def test_anchor_sums(case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "PROGRAMS", 2)
    assert_right(problem(*case))


@pytest.mark.parametrize("rho", WITH_MARGINS)
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
@pytest.mark.parametrize("both_orders", [False, True])
def test_margins_that_follow_the_label(pairs: str, rho: str, both_orders: bool) -> None:
    assert_right(problem(pairs=pairs, rho=rho, both_orders=both_orders))


@pytest.mark.parametrize(
    ("who", "pairs"),
    [
        ("examples", "pos-neg"),
        *(
            pytest.param(who, pairs, marks=pytest.mark.slow)
            for who, pairs in itertools.product(WHO, PAIR_SETS)
            if who in ("examples", "mask") or not pairs.startswith("anc-")
        ),
    ],
)
def test_more_anchors_than_a_block(who: str, pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles in the order of all_pairs, several in a slice, and classes that are in two blocks of anchors."""
    monkeypatch.setattr(launches, "PROGRAMS", 4)
    assert_right(problem("tiles", who, pairs, shuffle=False))


@pytest.mark.parametrize("size", [40, 300])
def test_sizes_of_embeddings(size: int) -> None:
    """More than a step of a product, and more than the registers of a gradient."""
    assert_right(problem("pairs", size=size), torch.float32)


@pytest.mark.parametrize("pairs", ["pos-neg", pytest.param("anc-pos", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rho", RHO)
def test_anchor_sums_in_float32(pairs: str, rho: str) -> None:
    assert_right(problem(pairs=pairs, rho=rho), torch.float32)


@half_types
@pytest.mark.parametrize("normalize", [False, True])
def test_half_types_of_mixes_are_computed_in_float32(dtype: torch.dtype, normalize: bool) -> None:
    given, truth = half_results(ANCHOR_SUMS, problem("pairs", normalize=normalize), dtype)
    assert given["gradient of mixed"].dtype == dtype
    assert given["sums"].dtype == given["gradient of anchors"].dtype == torch.float32
    for name, most in (("sums", 2e-6), ("gradient of mixed", torch.finfo(dtype).eps), ("gradient of anchors", 1e-5)):
        assert_near(given[name], truth[name], most, name)


def test_mixes_below_the_smallest_norm() -> None:
    """Divided by it, and their gradients, too."""
    arguments = problem("pairs", rho="linear")
    arguments["mixed"][:4] = 0
    arguments["mixed"][4:8] *= 1e-14
    assert_right(arguments)
    gradient = evaluate(ANCHOR_SUMS, arguments, torch.float64, DEVICE)["gradient of mixed"]
    assert gradient[:8].abs().max() > 1e9


def test_nan_in_a_mix_reaches_the_anchors_that_use_it() -> None:
    arguments = problem(shuffle=False)
    before = evaluate(ANCHOR_SUMS, arguments, torch.float64, DEVICE)["sums"].cpu()
    mixes, related = arguments["mixes"], arguments["relations"].dense(11)
    arguments["mixed"][7, 1] = math.nan
    sums, of_mixed, of_anchors = with_gradients_of_all(arguments)
    first, second = related[:, mixes.first[7]], related[:, mixes.second[7]]
    users = first * second == -1
    assert users.any()
    assert sums[users].isnan().all()
    assert torch.equal(sums[~users], before[~users])
    assert of_mixed[7].isnan().any()
    assert of_anchors[users].isnan().any()


def with_gradients_of_all(arguments: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Sums and the gradients of mixes and anchors, also of sums that are NaN."""
    given = prepare(ANCHOR_SUMS, arguments, torch.float64, DEVICE)
    sums = outputs(ANCHOR_SUMS, ANCHOR_SUMS.call, given)["sums"]
    weights = upstream(sums).masked_fill(sums == -math.inf, 0)
    gradients = torch.autograd.grad(sums, (given["mixed"], given["anchors"]), weights)
    return sums.detach().cpu(), gradients[0].cpu(), gradients[1].cpu()


def test_nan_in_an_anchor_reaches_its_mixes() -> None:
    arguments = problem(shuffle=False)
    mixes, related = arguments["mixes"], arguments["relations"].dense(11)
    arguments["anchors"][5, 0] = math.nan
    sums, of_mixed, _ = with_gradients_of_all(arguments)
    used = related[5, mixes.first] * related[5, mixes.second] == -1
    assert torch.equal(sums.isnan().any(1), torch.arange(11) == 5)
    assert of_mixed[used].isnan().any(1).all()


@pytest.mark.parametrize("sizes", ["one", "singletons"])
def test_empty_sets_ignore_the_upstream_gradient(sizes: str) -> None:
    """One example has no mix; singletons have no positives."""
    given = prepare(ANCHOR_SUMS, problem(sizes), torch.float64, DEVICE)
    sums = outputs(ANCHOR_SUMS, ANCHOR_SUMS.call, given)["sums"]
    assert (sums == -math.inf).all()
    sums.backward(torch.full_like(sums, math.nan))
    for name in ("mixed", "anchors"):
        assert given[name].grad is not None
        assert given[name].grad.eq(0).all()


def test_no_anchor() -> None:
    arguments = problem()
    none = {"relations": arguments["relations"].of_rows(slice(0, 0)), "anchors": arguments["anchors"][:0]}
    given = evaluate(ANCHOR_SUMS, arguments | none, torch.float64, DEVICE)
    assert given["sums"].shape == (0, 2)
    assert given["gradient of mixed"].eq(0).all()


def test_gradients_of_anchors_are_added_in_place_and_repeatable() -> None:
    given = {name: given_as(value, torch.float64, DEVICE) for name, value in problem().items()}
    mixed, anchors = given.pop("mixed"), given.pop("anchors")
    args = mixed, anchors, *flat_arguments(**given)
    sums, _ = torch.ops.metrix_ext.anchor_sums(*args)
    found = []
    for begin in (0.0, 0.0, 1.0):
        total = torch.full_like(anchors, begin)
        ones = torch.ones_like(sums)
        found.append((add_sums(ones, sums, AnchorSumsArguments(*args), total), total))
    assert all(map(torch.equal, *found[:2]))
    torch.testing.assert_close(found[2][1], found[0][1] + 1)
    assert torch.equal(torch.ops.metrix_ext.anchor_sums(*args)[0], sums)
