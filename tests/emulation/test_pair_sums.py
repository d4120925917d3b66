"""pair_sums and pair_lambda on the emulated device: what test_every_op.py leaves out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from metrix_ext import reference
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.emulation.checks import check
from tests.emulation.device import emulated
from tests.emulation.device.emulated import tiny_blocks
from tests.support.compare import assert_near
from tests.support.op_checks import evaluate, evaluate_reference
from tests.support.ops import PAIR_SUMS
from tests.support.problems import GIVEN, WINDOWS, check_diagonals, check_with_clean, make_problem

ALL_SETS = ("clean", *PAIR_SETS)
# More than one block of anchors, of firsts and of columns.
LARGE = {"many": (37, 3, 5), "tail": (20, 8, 1, 9, 2, 1, 4)}


@tiny_blocks
@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layout", list(LARGE))
def test_several_blocks(device: emulated.Device, pairs: str, masked: bool, layout: str) -> None:
    problem = make_problem(pairs, "exp", LARGE[layout], masked, pairs != "clean", seed=7)
    check(device, PAIR_SUMS, problem.arguments(), [torch.float32])


@tiny_blocks
@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_windows(device: emulated.Device, pairs: str, rho: str) -> None:
    for window, renormalize, proxies in itertools.product(WINDOWS, (False, True), (False, True)):
        problem = make_problem(pairs, rho, "ragged", False, renormalize, proxies=proxies).window(*window)
        check(device, PAIR_SUMS, problem.arguments())
    one_lambda = make_problem(pairs, rho, "ragged", scalar_lambda=True)
    check(device, PAIR_SUMS, one_lambda.window(5, 9).arguments())
    for window in ((37, 45), (0, 40)):
        check(device, PAIR_SUMS, make_problem(pairs, rho, LARGE["many"]).window(*window).arguments(), [torch.float32])


@tiny_blocks
@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_with_clean(device: emulated.Device, pairs: str) -> None:
    for rho, proxies in itertools.product(("exp", "linear"), (False, True)):
        check_with_clean(make_problem(pairs, rho, LARGE["many"], proxies=proxies))
    check_with_clean(make_problem(pairs, "exp", LARGE["tail"], masked=True), torch.float32)


@tiny_blocks
@pytest.mark.parametrize(("pairs", "given"), GIVEN)
def test_diagonals(device: emulated.Device, pairs: str, given: tuple[str, ...]) -> None:
    for rho in ("nca", "linear"):
        check_diagonals(pairs, rho, given)
    check_diagonals(pairs, "nca", given, torch.float32)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_weights_of_zero(device: emulated.Device, pairs: str, lam: float) -> None:
    problem = make_problem(pairs, "exp", "ragged", scalar_lambda=True, renormalize=False)
    problem.floats["lam"].fill_(lam)
    check(device, PAIR_SUMS, problem.arguments())
    problem = make_problem(pairs, "exp", "ragged", renormalize=False)
    problem.floats["lam"][::2] = lam
    problem.floats["similarity"][:, 0] = 5.0  # the largest exponents by far, some of them of terms without weight
    check(device, PAIR_SUMS, problem.arguments())


@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("factor", [-1e3, 1e3])
def test_exponents_beyond_the_range_of_floats(device: emulated.Device, pairs: str, factor: float) -> None:
    problem = make_problem(pairs, "exp", LARGE["tail"], renormalize=False)
    for name in ("similarity", "self_similarity"):
        if name in problem.floats:
            problem.floats[name] *= factor
    check(device, PAIR_SUMS, problem.arguments(), [torch.float64])
    sums, truth = (
        evaluate(PAIR_SUMS, problem.arguments(), torch.float32),
        evaluate_reference(PAIR_SUMS, problem.arguments()),
    )
    assert_near(sums["sums"], truth["sums"], 1e-6)


@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("rho", ["exp", "linear"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_in_not_finite_out(device: emulated.Device, pairs: str, rho: str, bad: float) -> None:
    problem = make_problem(pairs, rho, "ragged")
    similarity = problem.floats["similarity"]
    partner = 1 if pairs in ("pos-pos", "anc-pos") else len(similarity) - 1
    similarity[0, partner] = bad
    for dtype in (torch.float32, torch.float64):
        sums = pair_sums(**problem.arguments(dtype))[0]
        assert sums[0].isnan().all()
        assert not sums[1:].isnan().any(), "an anchor that the value does not touch became NaN"


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_a_lambda_that_is_nan_comes_out(device: emulated.Device, pairs: str, rho: str) -> None:
    """Also where a warp has no other term: the sum of NaN alone is no empty set."""
    problem = make_problem(pairs, rho, "ragged")
    right = evaluate_reference(PAIR_SUMS, problem.arguments())["sums"]
    problem.floats["lam"].fill_(math.nan)
    for dtype in (torch.float32, torch.float64):
        sums = pair_sums(**problem.arguments(dtype))[0]
        used = (right.isfinite() & (right != 0)).any(1)
        assert used.any()
        assert sums[used].isnan().any(1).all()


@pytest.mark.parametrize("pairs", ["clean", "pos-neg", "pos-pos", "neg-neg"])
def test_an_anchor_is_not_compared_with_itself(device: emulated.Device, pairs: str) -> None:
    problem = make_problem(pairs)
    expected = pair_sums(**problem.arguments())[0]
    problem.floats["similarity"].fill_diagonal_(math.nan)
    assert torch.equal(pair_sums(**problem.arguments())[0], expected)


# What a call launches: forward; backward; backward of renormalised mixes. One more each way where anchors have to be
# grouped.
LAUNCHES = {
    "clean": (1, 1, None),
    "anc-neg": (1, 1, 3),
    "anc-pos": (1, 1, 3),
    "pos-neg": (1, 1, 3),
    "pos-pos": (1, 1, 3),
    "neg-neg": (1, 1, 4),
}


@pytest.mark.parametrize("pairs", ALL_SETS)
def test_number_of_launches_at_a_batch_of_100(device: emulated.Device, pairs: str) -> None:
    forward, plain, renormalized = LAUNCHES[pairs]
    for renormalize, backward in ((False, plain), (True, renormalized)):
        if backward is None:
            continue
        problem = make_problem(pairs, "linear", (5,) * 20, renormalize=renormalize)
        grouping = int(pairs in ("pos-neg", "pos-pos", "neg-neg"))
        for given, more in ((problem, grouping), (problem.in_order(), 0)):
            arguments = given.arguments(torch.float32, grad=True)
            before = device.launches()
            sums, _ = pair_sums(**arguments)
            between = device.launches()
            sums.sum().backward()
            assert (between - before, device.launches() - between) == (forward + more, backward + more)


@pytest.mark.parametrize("alpha", [0.4, 2.0])
def test_pair_lambda(device: emulated.Device, monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
    rows, columns = torch.randperm(40)[:13], torch.cat((torch.randperm(40), torch.tensor([2**33])))
    for dtype in (torch.float32, torch.float64):
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "is_cuda", property(lambda self: True))
            lam = pair_lambda(5, rows, columns, alpha, dtype)
        assert (lam - reference.pair_lambda(5, rows, columns, alpha)).abs().max() < (
            1e-7 if dtype.itemsize == 4 else 1e-13
        )


@tiny_blocks
def test_shapes_without_anchors_or_examples(device: emulated.Device) -> None:
    for pairs, renormalize, masked in itertools.product(PAIR_SETS, (False, True), (False, True)):
        arguments = make_problem(pairs, "exp", "ragged", masked, renormalize, proxies=True).arguments(grad=True)
        relations = arguments["relations"]
        nobody = type(relations)(
            relations.positives[:0], relations.self_index[:0], None if relations.mask is None else relations.mask[:0]
        )
        arguments["relations"] = nobody
        arguments["similarity"] = arguments["similarity"].detach()[:0].requires_grad_()
        for name in ("self_similarity", "self_sqnorm", *(["lam", "gram"] if pairs.startswith("anc-") else [])):
            if name in arguments:
                arguments[name] = arguments[name].detach()[:0].requires_grad_(name != "lam")
        sums, _ = pair_sums(**arguments)
        assert sums.shape == (0, 2)
        sums.sum().backward()
        assert all(t.grad is None or (t.grad == 0).all() for t in arguments.values() if isinstance(t, Tensor))
