"""The CUDA kernels without a GPU: their own source, run thread by thread on the CPU, against the reference.

Values, gradients, that every element is written, that the bits do not depend on the order of blocks and threads, and
that no thread waits at a barrier which others never reach. What this cannot show is in test_gpu.py.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from metrix_ext import reference
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.emulation.device import emulated
from tests.emulation.device.emulated import tiny_blocks
from tests.support.problems import CASES, CLASS_SIZES, GIVEN, WINDOWS, check_diagonals, check_with_clean, make_problem

ALL_SETS = ("clean", *PAIR_SETS)
# More than one block of anchors, of firsts and of columns.
LARGE = {"many": (37, 3, 5), "tail": (20, 8, 1, 9, 2, 1, 4)}
CLASS_SIZES.update(LARGE)
SMALL = [case for case in CASES if case[2] not in ("wide", *LARGE)]


def evaluate(function, problem, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Sums, counts, and the gradients under an upstream gradient that differs from anchor to anchor."""
    arguments = problem.arguments(dtype, grad=True)
    sums, nonzero = function(**arguments)
    weights = torch.linspace(0.5, 2.0, sums.numel(), dtype=sums.dtype).reshape(sums.shape)
    finite = torch.where(sums.detach().isfinite(), sums, torch.zeros_like(sums))
    (finite * weights).sum().backward()
    results = {"sums": sums.detach()}
    if not problem.rho[0].exponential:
        results["nonzero"] = nonzero
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.requires_grad:
            results[f"gradient of {name}"] = torch.zeros_like(value) if value.grad is None else value.grad
    return results


def error(actual: Tensor, expected: Tensor) -> float:
    """Relative l2 error of what is finite; infinite if an infinity or a NaN is not where it should be."""
    actual = actual.double()
    if actual.isnan().any() or not torch.equal(actual.isinf(), expected.isinf()):
        return math.inf
    finite = expected.isfinite()
    return float((actual - expected)[finite].norm() / (1e-12 + expected[finite].norm()))


def check(device: emulated.Device, problem, dtypes=(torch.float64, torch.float32)) -> None:
    truth = evaluate(reference.pair_sums, problem)
    for dtype in dtypes:
        plain = evaluate(reference.pair_sums, problem, dtype)
        device.run_backwards(False)
        results = evaluate(pair_sums, problem, dtype)
        device.run_backwards(True)
        again = evaluate(pair_sums, problem, dtype)
        for name, expected in truth.items():
            # No worse than the plain formula in the same type, plus a few roundings.
            allowed = 1e-11 if dtype == torch.float64 else 2e-5 + error(plain[name], expected)
            assert error(results[name], expected) <= allowed, f"{name}, {dtype}"
            assert torch.equal(results[name], again[name]), f"{name}, {dtype}: not the same bits in another order"
        if len(problem.floats["similarity"]) == problem.floats["similarity"].shape[1]:
            device.run_backwards(False)
            known = evaluate(pair_sums, problem.in_order(), dtype)
            for name, expected in known.items():
                assert torch.equal(results[name], expected), f"{name}, {dtype}: other bits where the order is known"


@pytest.mark.parametrize(("pairs", "rho", "layout", "masked"), SMALL)
def test_values_and_gradients(device: emulated.Device, pairs: str, rho: str, layout: str, masked: bool) -> None:
    for renormalize in (False,) if pairs == "clean" else (False, True):
        for scalar_lambda, proxies in ((False, False), (True, False), (False, True)):
            check(device, make_problem(pairs, rho, layout, masked, renormalize, scalar_lambda, proxies, seed=3))


@tiny_blocks
@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layout", list(LARGE))
def test_several_blocks(device: emulated.Device, pairs: str, masked: bool, layout: str) -> None:
    check(device, make_problem(pairs, "exp", layout, masked, pairs != "clean", seed=7), [torch.float32])


@tiny_blocks
@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_windows(device: emulated.Device, pairs: str, rho: str) -> None:
    for window, renormalize, proxies in itertools.product(WINDOWS, (False, True), (False, True)):
        check(device, make_problem(pairs, rho, "ragged", False, renormalize, proxies=proxies).window(*window))
    check(device, make_problem(pairs, rho, "ragged", scalar_lambda=True).window(5, 9))
    check(device, make_problem(pairs, rho, "many").window(37, 45), [torch.float32])
    check(device, make_problem(pairs, rho, "many").window(0, 40), [torch.float32])


@tiny_blocks
@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_with_clean(device: emulated.Device, pairs: str) -> None:
    for rho, proxies in itertools.product(("exp", "linear"), (False, True)):
        check_with_clean(make_problem(pairs, rho, "many", proxies=proxies))
    check_with_clean(make_problem(pairs, "exp", "tail", masked=True), torch.float32)


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
    check(device, problem)
    problem = make_problem(pairs, "exp", "ragged", renormalize=False)
    problem.floats["lam"][::2] = lam
    problem.floats["similarity"][:, 0] = 5.0  # the largest exponents by far, some of them of terms without weight
    check(device, problem)


@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("factor", [-1e3, 1e3])
def test_exponents_beyond_the_range_of_floats(device: emulated.Device, pairs: str, factor: float) -> None:
    problem = make_problem(pairs, "exp", "tail", renormalize=False)
    for name in ("similarity", "self_similarity"):
        if name in problem.floats:
            problem.floats[name] *= factor
    check(device, problem, [torch.float64])
    sums = evaluate(pair_sums, problem, torch.float32)["sums"]
    assert error(sums, evaluate(reference.pair_sums, problem)["sums"]) < 1e-6


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
    CLASS_SIZES["batch"] = (5,) * 20
    forward, plain, renormalized = LAUNCHES[pairs]
    for renormalize, backward in ((False, plain), (True, renormalized)):
        if backward is None:
            continue
        problem = make_problem(pairs, "linear", "batch", renormalize=renormalize)
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
