"""The rule of docs/numbers.md for infinities and NaN as a plain formula, and checks of the ops against it.

Nothing of the package computes the numbers here: they are sums in Python over the terms of each anchor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.mixes import Mixes
from tests.support.mixes_problems import sums_problem
from tests.support.problems import Problem, make_problem

BAD = {"-inf": -math.inf, "+inf": math.inf, "nan": math.nan}
SETS = ("clean", "pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos")
RHO = ("exp", "linear")
SIZES = (1, 2, 4, 3)  # a class of one has no positive, of a class of two no two positives can be mixed

# What is spoilt: an argument of pair_sums and an element. Anchor 4 is of the class of 3, 4, 5, 6.
PLACES = {
    "a positive's similarity": ("similarity", (4, 5)),
    "a negative's similarity": ("similarity", (4, 8)),
    "the anchor's own": ("similarity", (4, 4)),
    "the partner's in a class of two": ("similarity", (1, 2)),
    "a negative's, of a class of one": ("similarity", (0, 8)),
}
NORMS = {
    "an inner product": ("gram", (3, 5)),
    "an inner product with the anchor": ("gram", (1, 2)),
    "a norm": ("sqnorm", (5,)),
    "the norm of the partner in a class of two": ("sqnorm", (2,)),
}


# ---- the plain formula ------------------------------------------------------------------------------------


class Term(NamedTuple):
    """A mix of examples i and j with one anchor; i is -1 of the anchor itself and of a clean term."""

    i: int
    j: int
    label: float
    similarity: float


def pairs_of(pairs: str, positive: list[int], negative: list[int]) -> Iterator[tuple[int, int, float | None]]:
    """First, second and label of the mixes of one anchor; None is lambda."""
    if pairs == "clean":
        yield from ((-1, j, 1.0) for j in positive)
        yield from ((-1, j, 0.0) for j in negative)
    elif pairs == "pos-neg":
        yield from ((i, j, None) for i in positive for j in negative)
    elif pairs.startswith("anc-"):
        members, label = (negative, None) if pairs == "anc-neg" else (positive, 1.0)
        yield from ((-1, j, label) for j in members)
    else:
        members, label = (positive, 1.0) if pairs == "pos-pos" else (negative, 0.0)
        yield from ((i, j, label) for i in members for j in members if i < j)


def terms_of(problem: Problem, anchor: int) -> list[Term]:
    """All terms of an anchor."""
    given = {name: t.tolist() for name, t in problem.floats.items()}
    relation = problem.relations.dense(problem.floats["similarity"].shape[1])[anchor].tolist()
    positive, negative = ([j for j, r in enumerate(relation) if r == sign] for sign in (1, -1))
    s = given["similarity"][anchor]
    terms = []
    for i, j, label in pairs_of(problem.pairs, positive, negative):
        if problem.pairs == "clean":
            terms.append(Term(i, j, label, s[j]))
            continue
        row = anchor if i < 0 else i
        lam = given["lam"][row][j]
        similarity = lam * (given["self_similarity"][anchor] if i < 0 else s[i]) + (1 - lam) * s[j]
        if "gram" in given:
            q_i = given["self_sqnorm"][anchor] if i < 0 else given["sqnorm"][i]
            square = lam * lam * q_i + (1 - lam) ** 2 * given["sqnorm"][j] + 2 * lam * (1 - lam) * given["gram"][row][j]
            similarity = similarity / math.sqrt(max(square, 1e-24)) if math.isfinite(square) else math.nan
        terms.append(Term(i, j, lam if label is None else label, similarity))
    return terms


def plain_sum(rho: Rho, weighted: list[tuple[float, float]]) -> float:
    """Over terms of weight and similarity, the logarithm if rho is exponential."""
    values = [(y, rho.scale * s + rho.shift) for y, s in weighted]
    if not rho.exponential:
        return sum(y * max(t, rho.floor) for y, t in values)
    used = [math.log(y) + t for y, t in values if y > 0]
    top = max(used, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(t - top) for t in used))


def plain_sums(rho: tuple[Rho, Rho], terms: list[tuple[float, float]]) -> list[float]:
    """Both sums of an anchor over terms of label and similarity: NaN if one is not finite."""
    if not all(math.isfinite(s) for _, s in terms):
        return [math.nan, math.nan]
    return [plain_sum(rho[0], terms), plain_sum(rho[1], [(1 - y, s) for y, s in terms])]


# ---- checks of the ops ------------------------------------------------------------------------------------


def spoilt_problem(pairs: str, rho: str, name: str, at: tuple[int, ...], value: float, masked: bool) -> Problem:
    """A problem of pair_sums, one element of which is not finite. Norms are renormalised, and apart from gram."""
    problem = make_problem(pairs, rho, SIZES, masked, renormalize=name != "similarity" and pairs != "clean", seed=1)
    if "gram" in problem.floats and "sqnorm" not in problem.floats:
        problem.floats["sqnorm"] = problem.floats["gram"].diagonal().clone()
    if name in problem.floats:
        problem.floats[name][at] = value
    return problem


def check_pair_sums(problem: Problem, whole: Problem, dtype: torch.dtype = torch.float64) -> None:
    """Sums of a spoilt problem against the plain formula, and its gradients against those of the whole one."""
    terms = [terms_of(problem, a) for a in range(len(problem.floats["similarity"]))]
    right = torch.tensor(
        [plain_sums(problem.rho, [(t.label, t.similarity) for t in of_anchor]) for of_anchor in terms],
        dtype=torch.float64,
    ).reshape(-1, 2)
    given, before = (p.arguments(dtype, grad=True) for p in (problem, whole))
    sums = pair_sums(**given)[0]
    rtol, atol = (1e-10, 1e-10) if dtype == torch.float64 else (1e-4, 1e-3)
    torch.testing.assert_close(sums.double().detach(), right, rtol=rtol, atol=atol, equal_nan=True)
    is_nan = right.isnan().any(1)
    for arguments, made in ((given, sums), (before, pair_sums(**before)[0])):
        made.backward(torch.ones_like(made))
        assert arguments["similarity"].grad is not None
    of_finite = [arguments["similarity"].grad[~is_nan] for arguments in (given, before)]
    torch.testing.assert_close(*of_finite, rtol=rtol, atol=atol)
    for a in is_nan.nonzero()[:, 0].tolist():
        read = {t.j for t in terms[a]} | {t.i for t in terms[a] if t.i >= 0}
        assert given["similarity"].grad[a, sorted(read)].isnan().all(), f"anchor {a}"
        for t in terms[a]:
            if "gram" in given:
                assert given["gram"].grad[a if t.i < 0 else t.i, t.j].isnan(), f"anchor {a}, {t}"


def check_place(pairs: str, rho: str, place: str, bad: str, masked: bool, dtype: torch.dtype = torch.float64) -> None:
    name, at = (PLACES | NORMS)[place]
    problem = spoilt_problem(pairs, rho, name, at, BAD[bad], masked)
    whole = replace(problem, floats={n: t.nan_to_num(0.3, 0.3, 0.3) for n, t in problem.floats.items()})
    check_pair_sums(problem, whole, dtype)


def check_a_mix(pairs: str, rho: str, normalize: bool, value: float, whole_row: bool = False) -> None:
    """anchor_sums of a mixed embedding that is not finite, or of which the norm is not: who uses it has NaN."""
    arguments = sums_problem(pairs, rho, (3, 4, 1, 2), "examples", normalize=normalize, dim=5)
    before = anchor_sums(**arguments)[0]
    mixes, relation = arguments["mixes"], arguments["relations"].dense(10).tolist()
    p = next(p for p in range(len(mixes)) if any(uses_mix(pairs, relation, a, mixes, p) for a in range(10)))
    mixed = arguments["mixed"].clone()
    mixed[p, slice(None) if whole_row else slice(2, 3)] = value
    leaf = mixed.requires_grad_()
    sums = anchor_sums(**arguments | {"mixed": leaf})[0]
    users = torch.tensor([uses_mix(pairs, relation, a, mixes, p) for a in range(10)])
    assert sums[users].isnan().all()
    assert torch.equal(sums[~users], before[~users])
    sums.backward(torch.ones_like(sums))
    assert leaf.grad[p].isnan().any()


def uses_mix(pairs: str, relation: list[list[int]], a: int, mixes: Mixes, p: int) -> bool:
    """Whether the mix is in the set of an anchor, in either order."""
    i, j = int(mixes.first[p]), int(mixes.second[p])
    first = {"pos": 1, "neg": -1}.get(pairs[:3])
    second = 1 if pairs.endswith("pos") else -1
    return any(
        (a == x if first is None else relation[a][x] == first) and relation[a][y] == second for x, y in ((i, j), (j, i))
    )
