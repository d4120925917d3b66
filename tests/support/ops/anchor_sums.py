"""anchor_sums and its problems."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from metrix_ext import reference
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.mixes_problems import CLASS_SIZES, WHO, sums_problem
from tests.support.op_checks import Arguments, BadArguments, Budget, Op
from tests.support.problems import RHO, WITH_MARGINS

either = (False, True)


def sums_variants(pairs: str, rho: str, who: str, both_orders: bool, layout: str, dim: int = 19) -> Iterator[Arguments]:
    """Mixes that are normalised, and mixes that are."""
    for normalize in either:
        sizes, shuffle = CLASS_SIZES[layout], layout == "pairs"
        yield sums_problem(pairs, rho, sizes, who, both_orders, normalize, shuffle, dim)


def sums_groups(dim: int) -> dict[str, Callable[[], Iterator[Arguments]]]:
    """Of embeddings of a size."""
    return {
        f"{pairs}-{rho}-{who}-{'both orders' if both_orders else 'ordered'}-{layout}": partial(
            sums_variants, pairs, rho, who, both_orders, layout, dim
        )
        for pairs, rho, who, both_orders, layout in [
            *itertools.product(PAIR_SETS, RHO, WHO, either, CLASS_SIZES),
            *itertools.product(PAIR_SETS, WITH_MARGINS, WHO, either, ("ragged", "pairs")),
        ]
    }


def bad_sums_arguments(arguments: Arguments) -> BadArguments:
    mixed, anchors, mixes = arguments["mixed"], arguments["anchors"], arguments["mixes"]
    return [
        ({"pairs": "neg-pos"}, ValueError, "pairs"),
        ({"mixed": mixed[1:]}, ValueError, "mixed"),
        ({"mixed": mixed[:, 1:]}, ValueError, "mixed"),
        ({"anchors": anchors[0]}, ValueError, "anchors"),
        ({"anchors": anchors.float()}, ValueError, "anchors"),
        ({"anchors": anchors[1:]}, ValueError, "relations.positives"),
        ({"mixes": replace(mixes, lam=mixes.lam.float())}, ValueError, "mixes.lam"),
        ({"mixed": mixed.long()}, TypeError, "mixed"),
    ]


ANCHOR_SUMS = Op(
    "anchor_sums",
    anchor_sums,
    reference.anchor_sums,
    ("sums", "nonzero"),
    ("mixed", "anchors"),
    sums_groups(19),
    small={who: partial(sums_problem, who=who) for who in ("examples", "mask")},
    smooth={pairs: partial(sums_problem, pairs, "nca", (2, 1, 3), dim=5) for pairs in PAIR_SETS}
    | {f"{pairs}-margins": partial(sums_problem, pairs, "exp margins", (2, 1, 3), dim=5) for pairs in PAIR_SETS},
    large={
        f"{pairs}-{who}": partial(sums_problem, pairs, sizes=tuple(1 + k % 5 for k in range(15)), who=who, dim=100)
        for pairs, who in itertools.product(PAIR_SETS, ("examples", "mask"))
    },
    wide={
        f"{pairs}-{rho}": partial(sums_problem, pairs, rho, dim=70)
        for pairs, rho in itertools.product(PAIR_SETS, ("exp", "linear"))
    },
    budget=Budget(1e-11, 2e-5, smallest=1e-3),  # linear terms cancel to a few last digits of the similarities
    half=("mixed",),
    bad=bad_sums_arguments,
    adds_in_order_of_memory=True,
)
