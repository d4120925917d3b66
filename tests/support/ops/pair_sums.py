"""pair_sums and its problems."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from metrix_ext import reference
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support import problems
from tests.support.op_checks import Arguments, BadArguments, Budget, Op
from tests.support.problems import RHO, WITH_MARGINS, make_problem

ALL_SETS = ("clean", *PAIR_SETS)
either = (False, True)


def pair_arguments(*args: object, **kwargs: object) -> Arguments:
    return make_problem(*args, **kwargs).arguments()  # type: ignore[arg-type]


def pair_variants(pairs: str, rho: str, layout: str, masked: bool) -> Iterator[Arguments]:
    """Renormalised or not, one lambda or a matrix, anchors that are the examples or proxies."""
    for renormalize in either if pairs != "clean" else (False,):
        for scalar_lambda, proxies in itertools.product(either, either):
            yield pair_arguments(pairs, rho, layout, masked, renormalize, scalar_lambda, proxies, seed=3)


def copies(pairs: str, rho: str, layout: str | tuple[int, ...]) -> Iterator[Arguments]:
    """Most of the examples as anchors, in any order; of every third it is not known which example it is."""
    for renormalize in either if pairs != "clean" else (False,):
        arguments = pair_arguments(pairs, rho, layout, renormalize=renormalize, seed=3)
        n = arguments["similarity"].shape[1]
        rows = torch.randperm(n, generator=torch.Generator().manual_seed(4))[: n - n // 4]
        of_anchors = {"similarity", "self_similarity", "self_sqnorm", *(("lam", "gram") if "anc-" in pairs else ())}
        relations = arguments["relations"].of_rows(rows)
        known = torch.arange(len(rows)) % 3 != 0
        relations = replace(relations, self_index=torch.where(known, relations.self_index, -1))
        chosen = {name: arguments[name][rows] for name in of_anchors & arguments.keys()}
        yield {**arguments, **chosen, "relations": relations}


def pair_groups() -> dict[str, Callable[[], Iterator[Arguments]]]:
    groups = {
        f"{pairs}-{rho}-{layout}{'-masked' * masked}": partial(pair_variants, pairs, rho, layout, masked)
        for pairs, rho, layout, masked in problems.CASES
    }
    groups |= {
        f"{pairs}-{rho}-{layout}{'-masked' * masked}": partial(pair_variants, pairs, rho, layout, masked)
        for pairs, rho, layout, masked in itertools.product(ALL_SETS, WITH_MARGINS, ("ragged", "wide"), either)
        if layout != "wide" or rho == "exp margins"
    }
    for pairs, rho, layout in itertools.product(ALL_SETS, RHO, ("ragged", "wide")):
        longer = partial(pair_arguments, pairs, rho, layout, seed=5, dim=32)
        groups[f"{pairs}-{rho}-{layout}-of 32"] = lambda longer=longer: iter((longer(),))
        groups[f"{pairs}-{rho}-{layout}-copies"] = partial(copies, pairs, rho, layout)
    return groups


def known_in_order(arguments: Arguments) -> Iterator[Arguments]:
    """The same, known to have the examples as anchors."""
    relations, n = arguments["relations"], arguments["similarity"].shape[1]
    if torch.equal(relations.self_index, torch.arange(n)):
        yield {**arguments, "relations": replace(relations, anchors_in_order=True)}


def bad_pair_arguments(arguments: Arguments) -> BadArguments:
    n = len(arguments["similarity"])
    return [
        ({"pairs": "neg-pos"}, ValueError, "pairs"),
        ({"lam": None}, ValueError, "lam"),
        ({"lam": torch.rand(n, n + 1)}, ValueError, "lam"),
        ({"sqnorm": torch.rand(n + 1)}, ValueError, "sqnorm"),
        ({"gram": torch.rand(n)}, ValueError, "gram"),
        ({"self_similarity": torch.rand(n)}, ValueError, "self_similarity"),
        ({"similarity": torch.rand(n)}, ValueError, "similarity"),
        ({"similarity": torch.ones(n, n, dtype=torch.int64)}, TypeError, "similarity"),
        ({"clean_rho": RHO["exp"], "pairs": "clean", "lam": None, "gram": None}, ValueError, "clean_rho"),
        ({"rho": (Rho(-1.0, margin_range=0.5), Rho(1.0))}, ValueError, "margin_range"),
    ]


PAIR_SUMS = Op(
    "pair_sums",
    pair_sums,
    reference.pair_sums,
    ("sums", "nonzero"),
    ("similarity", "gram", "sqnorm", "self_similarity", "self_sqnorm"),
    pair_groups(),
    small={pairs: partial(pair_arguments, pairs) for pairs in ("pos-neg", *ALL_SETS)},
    smooth={pairs: partial(pair_arguments, pairs, "nca") for pairs in ALL_SETS}
    | {f"{pairs}-margins": partial(pair_arguments, pairs, "exp margins") for pairs in ("pos-neg", "anc-neg")},
    large={
        pairs: partial(pair_arguments, pairs, "exp", tuple(1 + k % 5 for k in range(60)), dim=16) for pairs in ALL_SETS
    },
    wide={
        f"{pairs}-{rho}-{dim}": partial(pair_arguments, pairs, rho, "wide", dim=dim)
        for pairs, rho, dim in itertools.product(ALL_SETS, ("exp", "linear"), (6, 32))
    },
    budget=Budget(1e-11, 2e-5, smallest=1e-12, from_exact_inputs=True),
    half=("similarity", "lam", "gram", "sqnorm", "self_similarity", "self_sqnorm"),
    bad=bad_pair_arguments,
    equivalent=known_in_order,
)
