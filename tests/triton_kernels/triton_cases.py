"""pair_sums and pair_lambda as Triton kernels against the reference.

test_triton.py runs this file where they can run: on a GPU, or in Triton's interpreter, which has to be chosen before
Triton is imported.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.mixing.factorised import factorised_sums
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.ops.triton import pair_sums as launches
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.compare import assert_near
from tests.support.op_checks import (
    Budget,
    check_same,
    check_strided,
    checked,
    evaluate,
    evaluate_reference,
    given_as,
    prepare,
)
from tests.support.ops import PAIR_SUMS
from tests.support.ops.pair_sums import copies
from tests.support.problems import GIVEN, WITH_MARGINS, Problem, check_diagonals, check_with_clean, make_problem
from tests.triton_kernels.on_triton import DEVICE, poisoned_memory, triton_backend  # noqa: F401

RHO = ("exp", "linear")
LAYOUTS = {
    "none": (),
    "one": (1,),
    "two alike": (2,),
    "two unlike": (1, 1),
    "one class": (9,),
    "singletons": (1,) * 7,
    "ragged": (3, 1, 4),
    "class above a tile": (1, 2, 10),
}
BUDGET = Budget(1e-12, 2e-6, factor=2.0, nothing=1e-14, from_exact_inputs=True)
SETS = [("clean", False), *itertools.product(PAIR_SETS, (False, True))]

every_set = pytest.mark.parametrize(("pairs", "renormalize"), SETS)
each_set_renormalized = pytest.mark.parametrize(("pairs", "renormalize"), [s for s in SETS if s[1] or s[0] == "clean"])
every_rho = pytest.mark.parametrize("rho", RHO)


def problem(
    sizes: tuple[int, ...],
    rho: str,
    pairs: str,
    renormalize: bool,
    anchors: int = 0,
    masked: bool = False,
    one_lambda: bool = False,
    zeros: int = 0,
) -> Problem:
    """With a number of anchors those are no examples, one per class; with a mask anyone is positive or negative."""
    made = make_problem(pairs, rho, sizes, False, renormalize, one_lambda, anchors, dim=5, zeros=zeros)
    if masked:
        shape = made.floats["similarity"].shape
        mask = torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(0), dtype=torch.int8)
        made.relations = made.relations.keep_pairs(mask)
    return made


def assert_right(made: Problem, dtype: torch.dtype = torch.float64) -> None:
    """float64: the reference. float32: no further from it than the reference in float32, beside a small floor."""
    list(checked(PAIR_SUMS, made.arguments(), [dtype], DEVICE, BUDGET))


@every_rho
@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_some_examples_as_anchors(rho: str, pairs: str) -> None:
    for arguments in copies(pairs, rho, LAYOUTS["ragged"]):
        list(checked(PAIR_SUMS, arguments, [torch.float64], DEVICE, BUDGET))


@pytest.mark.parametrize("rho", WITH_MARGINS)
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
@pytest.mark.parametrize("renormalize", [False, True])
def test_margins_that_follow_the_label(pairs: str, renormalize: bool, rho: str) -> None:
    assert_right(problem(LAYOUTS["ragged"], rho, pairs, renormalize))


@every_rho
@every_set
@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_values_and_gradients(pairs: str, renormalize: bool, rho: str, masked: bool) -> None:
    assert_right(problem(LAYOUTS["ragged"], rho, pairs, renormalize, masked=masked))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "ragged"])
@every_set
def test_every_layout(pairs: str, renormalize: bool, layout: str) -> None:
    assert_right(problem(LAYOUTS[layout], "exp", pairs, renormalize))


@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("window", [(0, 3), (3, 8), (3, 4), (4, 4)])
@pytest.mark.parametrize(
    ("renormalize", "one_lambda"), [(False, False), (True, False), pytest.param(True, True, marks=pytest.mark.slow)]
)
def test_windows(
    pairs: str, window: tuple[int, int], renormalize: bool, one_lambda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The anchors whose positives are among some examples, with the rows of lambda and gram of these alone."""
    monkeypatch.setattr(launches, "PRODUCT_TILE", (2, 4))
    assert_right(problem(LAYOUTS["ragged"], "exp", pairs, renormalize, one_lambda=one_lambda).window(*window))


@pytest.mark.parametrize(("layout", "set_number"), list(zip(LAYOUTS, (0, 1, 2, 4, 6, 8, 10, 2), strict=True)))
def test_layouts(layout: str, set_number: int) -> None:
    assert_right(problem(LAYOUTS[layout], "exp", *SETS[set_number], masked=layout == "two unlike"))


@pytest.mark.parametrize("rho", ["exp", pytest.param("linear", marks=pytest.mark.slow)])
@each_set_renormalized
def test_float32(pairs: str, renormalize: bool, rho: str) -> None:
    assert_right(problem(LAYOUTS["ragged"], rho, pairs, renormalize), torch.float32)


@each_set_renormalized
def test_one_lambda_and_zero_vectors(pairs: str, renormalize: bool) -> None:
    assert_right(problem(LAYOUTS["ragged"], "exp", pairs, renormalize, one_lambda=True, zeros=2))


@each_set_renormalized
@pytest.mark.parametrize("programs", [1, pytest.param(1024, marks=pytest.mark.slow)])
def test_more_columns_than_a_tile(
    pairs: str, renormalize: bool, programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few anchors that are no examples, several tiles in one slice and in many."""
    monkeypatch.setattr(launches, "PROGRAMS", programs)
    monkeypatch.setattr(launches, "ANCHORS_PER_BLOCK", 2)
    monkeypatch.setattr(launches, "PRODUCT_TILE", (4, 8))
    monkeypatch.setattr(launches, "ROW_TILE", (2, 4))
    assert_right(problem((3, 3, 3, 10), "exp", pairs, renormalize, anchors=3))


@pytest.mark.parametrize(("pairs", "given"), GIVEN)
def test_diagonals(pairs: str, given: tuple[str, ...]) -> None:
    check_diagonals(pairs, "nca", given, device=DEVICE)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", pytest.param("linear", marks=pytest.mark.slow)])
def test_with_clean(pairs: str, rho: str) -> None:
    check_with_clean(make_problem(pairs, rho, (2, 1, 3)), device=DEVICE)


def test_real_tiles() -> None:
    assert_right(problem((10, 1030), "exp", "anc-neg", True, anchors=2))
    assert_right(problem((10, 140), "exp", "pos-neg", True, anchors=2), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    arguments = problem(LAYOUTS["ragged"], "exp", "clean", False).arguments()
    rounded = arguments["similarity"].to(DEVICE, dtype)
    here = {name: given_as(value, dtype, DEVICE) for name, value in arguments.items()}
    sums, _ = pair_sums(**{**here, "similarity": rounded})
    expected, _ = reference.pair_sums(**{**arguments, "similarity": rounded.double().cpu()})
    torch.testing.assert_close(sums.cpu(), expected.float())


def test_gradients_at_huge_logarithms() -> None:
    """Half a unit in the last place of a logarithm of 10^6 would be a factor of 1.03."""
    arguments = problem(LAYOUTS["ragged"], "exp", "pos-neg", False, one_lambda=True).arguments()
    arguments["similarity"] *= 2.0**14
    arguments["lam"].fill_(0.5)
    found, truth = evaluate(PAIR_SUMS, arguments, torch.float32, DEVICE), evaluate_reference(PAIR_SUMS, arguments)
    assert_near(found["gradient of similarity"], truth["gradient of similarity"], 1e-6)


@each_set_renormalized
def test_non_contiguous(pairs: str, renormalize: bool) -> None:
    check_strided(PAIR_SUMS, problem(LAYOUTS["ragged"], "exp", pairs, renormalize).arguments(), DEVICE)


@each_set_renormalized
@pytest.mark.parametrize("value", [pytest.param(math.nan, marks=pytest.mark.slow), -math.inf])
def test_not_finite(pairs: str, renormalize: bool, value: float) -> None:
    """Comes out as NaN in the sums that it is in, and in no others."""
    arguments = problem(LAYOUTS["ragged"], "exp", pairs, renormalize).arguments()
    before = evaluate(PAIR_SUMS, arguments, torch.float32, DEVICE)["sums"]
    arguments["similarity"][7, 7] = value  # the anchor itself: in no sum
    assert torch.equal(evaluate(PAIR_SUMS, arguments, torch.float32, DEVICE)["sums"], before)
    arguments["similarity"][7, 5 if pairs in ("pos-pos", "anc-pos") else 1] = value
    leaves = prepare(PAIR_SUMS, arguments, torch.float32, DEVICE)
    sums, _ = pair_sums(**leaves)
    assert sums[7].isnan().any()
    others = torch.arange(len(sums)) != 7
    assert torch.equal(sums[others], before[others])
    sums.masked_fill(sums == -math.inf, 0).sum().backward()
    assert leaves["similarity"].grad[7].isnan().any()


@each_set_renormalized
def test_empty_sets_ignore_the_upstream_gradient(pairs: str, renormalize: bool) -> None:
    arguments = problem(LAYOUTS["singletons"], "exp", pairs, renormalize).arguments()
    leaves = prepare(PAIR_SUMS, arguments, torch.float64, DEVICE)
    sums, _ = pair_sums(**leaves)
    sums.backward(torch.full_like(sums, math.nan).masked_fill(sums != -math.inf, 0))
    assert leaves["similarity"].grad.abs().max() == 0


@pytest.mark.parametrize(("pairs", "renormalize"), [("pos-neg", True), ("anc-neg", True)])
def test_bitwise_repeatable(pairs: str, renormalize: bool) -> None:
    arguments = problem(LAYOUTS["ragged"], "exp", pairs, renormalize).arguments()
    first, again = (evaluate(PAIR_SUMS, arguments, torch.float32, DEVICE) for _ in range(2))
    check_same(again, first, "again")


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_factorised(lam: float) -> None:
    arguments = problem(LAYOUTS["ragged"], "exp", "pos-neg", False, one_lambda=True).arguments()
    arguments["lam"].fill_(lam)
    expected, _ = reference.pair_sums(**arguments)
    here = prepare(PAIR_SUMS, arguments, torch.float64, DEVICE)
    sums, _ = factorised_sums(here["similarity"], here["relations"], here["rho"], here["lam"])
    torch.testing.assert_close(sums.cpu(), expected)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 2.0, 8.0, 50.0])
@pytest.mark.parametrize("seed", [0, 123456789012345, -1])
def test_lambda_is_that_of_the_cpu(alpha: float, seed: int) -> None:
    rows = torch.tensor([0, 3, 5, 2**31 - 1, 2**32 + 3, 2**40 + 7])
    columns = torch.cat((torch.arange(300), rows))
    in_order = rows[:, None] <= columns
    for dtype, tolerance in ((torch.float32, 2.0**-23), (torch.float64, 1e-12)):
        with mx.use_backend("cpu"):
            expected = pair_lambda(seed, rows, columns, alpha, dtype)
        given = pair_lambda(seed, rows.to(DEVICE), columns.to(DEVICE), alpha, dtype).cpu()
        torch.testing.assert_close(given[in_order], expected[in_order], rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lambda_of_both_orders(dtype: torch.dtype) -> None:
    index = torch.arange(20, device=DEVICE)
    lam = pair_lambda(7, index, index, 2.0, dtype)
    lower = torch.ones_like(lam).tril(-1).bool()
    assert torch.equal(lam[lower], 1 - lam.T[lower])
    assert (lam.diagonal() == 0.5).all()


def test_lambda_of_nothing() -> None:
    index = torch.arange(3, device=DEVICE)
    assert pair_lambda(7, index[:0], index).shape == (0, 3)
    assert pair_lambda(7, index, index[:0]).shape == (3, 0)
