"""Random problems of pair_sums and anchor_sums against the reference in float64: what a seed and a number give.

A case is drawn from (seed, number) alone, so that one that fails can be had again: its error names both.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metrix_ext.terms.formula import Rho
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.mixes_problems import WHO, sums_problem
from tests.support.op_checks import Op, check_values, leaves, outputs, prepare, upstream
from tests.support.ops import ANCHOR_SUMS, PAIR_SUMS
from tests.support.problems import Problem, make_problem

SIDES = {"exp": (Rho(-1.0), Rho(1.0)), "linear": (Rho(-1.0, exponential=False), Rho(1.0, exponential=False))}


@dataclass
class Case:
    """Arguments of an op, and whether some of them are not finite."""

    op: Op
    arguments: dict[str, Any]
    is_finite: bool
    dtype: torch.dtype
    description: str


# ---- drawing ----------------------------------------------------------------------------------------------


def draw(seed: int, number: int, most: int) -> Case:
    """A case of at most so many examples."""
    dice = random.Random(f"{seed}, {number}")
    op, arguments, told = draw_mixes(dice, most) if dice.random() < 0.25 else draw_similarities(dice, most)
    arguments["rho"] = draw_rho(dice, arguments["rho"][0].exponential)
    bad = spoil(dice, arguments) if dice.random() < 0.3 else []
    dtype = torch.float64 if bad or dice.random() < 0.75 else torch.float32
    return Case(op, arguments, not bad, dtype, f"{op.name}: {told}, rho={arguments['rho']}, {dtype}, not finite: {bad}")


def draw_sizes(dice: random.Random, most: int) -> tuple[int, ...]:
    """Of classes: singletons, pairs and larger ones, in all at most so many, now and then none."""
    left, sizes = dice.randint(0, most) if dice.random() < 0.1 else dice.randint(min(4, most), most), []
    while left > 0:
        sizes.append(min(left, dice.choice((1, 1, 2, 2, 3, 4, 5, most))))
        left -= sizes[-1]
    return tuple(sizes)


def draw_rho(dice: random.Random, exponential: bool) -> tuple[Rho, Rho]:
    """Of the signs of Table 1, with scales up to 100; half of them with margins that follow the label."""
    has_margins, of_both = dice.random() < 0.5, dice.uniform(-1, 1)

    def side() -> Rho:
        scale, shift = dice.choice((-1, 1)) * math.exp(dice.uniform(-2, 4.6)), dice.uniform(-2, 2)
        floor, own = dice.choice((0.0, -math.inf)), dice.uniform(-1, 1)
        if exponential:
            return Rho(scale, shift, margin_range=of_both * has_margins)
        return Rho(scale, shift, exponential=False, floor=floor, margin_range=own * has_margins)

    return side(), side()


def draw_similarities(dice: random.Random, most: int) -> tuple[Op, dict[str, Any], str]:
    pairs, sizes = dice.choice(("clean", *PAIR_SETS)), draw_sizes(dice, most)
    masked, renormalize, one_lambda, proxies = (dice.random() < share for share in (0.3, 0.5, 0.3, 0.3))
    renormalize &= pairs != "clean"
    dim, zeros, seed = dice.randint(2, 8), dice.choice((0, 0, 0, 1)), dice.randrange(2**31)
    told = f"{pairs} of {sizes}, {masked=} {renormalize=} {one_lambda=} {proxies=} {dim=} {zeros=} {seed=}"
    problem = make_problem(
        pairs, dice.choice(list(SIDES)), sizes, masked, renormalize, one_lambda, proxies, seed, dim, zeros
    )
    draw_lambda(dice, problem)
    has_rows = renormalize or not one_lambda  # of a matrix, of which a window may be given
    if pairs in ("pos-neg", "pos-pos") and not masked and has_rows and sizes and dice.random() < 0.4:
        begin, end = sorted(dice.choices(range(len(sizes) + 1), k=2))
        begin, end = sum(sizes[:begin]), sum(sizes[:end])
        problem, told = problem.window(begin, end), f"{told} window={begin}:{end}"
    elif not masked and not proxies and dice.random() < 0.5:
        problem, told = problem.in_order(), f"{told} in order"
    return PAIR_SUMS, problem.arguments(), told


def draw_lambda(dice: random.Random, problem: Problem) -> None:
    """Some of the numbers at the ends and in the middle."""
    for flat in (problem.floats["lam"].view(-1),) if "lam" in problem.floats else ():
        for k in range(len(flat)):
            if dice.random() < 0.1:
                flat[k] = dice.choice((0.0, 0.5, 1.0))


def draw_mixes(dice: random.Random, most: int) -> tuple[Op, dict[str, Any], str]:
    pairs, sizes, who = dice.choice(PAIR_SETS), draw_sizes(dice, most) or (1,), dice.choice(WHO)
    both_orders, normalize, shuffle = (dice.random() < 0.5 for _ in range(3))
    dim = dice.randint(2, 20)
    told = f"{pairs} of {sizes}, {who} {both_orders=} {normalize=} {shuffle=} {dim=}"
    rho = dice.choice(("nca", "linear"))
    return ANCHOR_SUMS, sums_problem(pairs, rho, sizes, who, both_orders, normalize, shuffle, dim), told


def spoil(dice: random.Random, arguments: dict[str, Any]) -> list[str]:
    """Makes up to three elements NaN or infinite, in place. Lambda is a number always."""
    names = [n for n, t in arguments.items() if isinstance(t, Tensor) and n != "lam" and t.numel()]
    done = []
    for _ in range(dice.randint(1, 3) if names else 0):
        name, value = dice.choice(names), dice.choice((math.nan, math.inf, -math.inf))
        arguments[name] = arguments[name].clone()
        at = tuple(dice.randrange(size) for size in arguments[name].shape)
        arguments[name][at] = value
        done.append(f"{name}{list(at)}={value}")
    return done


# ---- checking ---------------------------------------------------------------------------------------------


def check(case: Case) -> None:
    if case.is_finite:
        # Of two roundings of one problem either may be the luckier; among thousands of problems it shows.
        own = case.op.budget
        cancelled = cancellation(case.arguments) * torch.finfo(torch.float32).eps
        budget = replace(own, factor=2 * own.factor, single=own.single + cancelled)
        return check_values(case.op, case.arguments, [case.dtype], budget=budget)
    given, expected = (with_gradients(case, call) for call in (case.op.call, case.op.reference))
    near("sums", given["sums"], expected["sums"])
    is_nan = expected["sums"].isnan().any(1)
    if case.op is ANCHOR_SUMS:  # the reference multiplies matrices, where a NaN reaches the gradients of all
        assert given["anchors"][is_nan].isnan().any(1).all(), "a NaN is lost"
        return
    for name, right in expected.items():
        assert given[name][right.isnan()].isnan().all(), f"{name}: a NaN is lost"
    # A row of similarities is one anchor's: those of the others are what they are without the NaN.
    near("gradient of similarity", given["similarity"][~is_nan], expected["similarity"][~is_nan])
    if not is_nan.any():
        for name, right in expected.items():
            near(f"gradient of {name}", given[name], right)


def cancellation(arguments: dict[str, Any]) -> float:
    """How many times its own size the square norm of a renormalised mix is computed from, at most.

    A mix of two examples that are nearly opposite is short, and every formula in one precision loses as many digits.
    """
    gram, lam = arguments.get("gram"), arguments.get("lam")
    if gram is None or gram.numel() == 0:
        return 0.0
    of_second, begin = arguments.get("sqnorm", gram.diagonal()), arguments["first_row"]
    of_first = arguments["self_sqnorm"] if arguments["pairs"].startswith("anc-") else of_second
    parts = lam**2 * of_first[begin : begin + len(gram), None], (1 - lam) ** 2 * of_second[None, :]
    square = parts[0] + parts[1] + 2 * lam * (1 - lam) * gram
    return float(((parts[0] + parts[1]) / square.clamp_min(1e-24)).amax())


def with_gradients(case: Case, call: Any) -> dict[str, Tensor]:
    """Sums, and gradients by argument; also of sums that are NaN or minus infinity something comes from above."""
    given = prepare(case.op, case.arguments, torch.float64)
    sums = outputs(case.op, call, given)["sums"]
    of = leaves(case.op, given)
    found = torch.autograd.grad(sums, list(of.values()), upstream(sums), materialize_grads=True)
    return {"sums": sums.detach()} | dict(zip(of, found, strict=True))


def near(name: str, given: Tensor, right: Tensor) -> None:
    size = float(right.abs().nan_to_num(0, 0, 0).amax()) if right.numel() else 0.0
    torch.testing.assert_close(
        given, right, rtol=1e-9, atol=1e-9 * (1 + size), equal_nan=True, msg=lambda m: f"{name}: {m}"
    )


def run(count: int, seed: int, most: int = 20, first: int = 0) -> None:
    """Draws and checks so many cases, beginning with number ``first``.

    Raises:
        AssertionError: a case fails; the message says which, and what it is.
    """
    print(f"properties: {count} cases, seed {seed}, from {first}, at most {most} examples", flush=True)
    for number in range(first, first + count):
        case = draw(seed, number, most)
        try:
            check(case)
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {number}: {case.description}: {error}") from error
