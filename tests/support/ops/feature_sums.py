"""feature_sums and its problems; its reference forms, pools and projects every mix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from metrix_ext import reference
from metrix_ext.ops.feature_chunks import FeatureSumsArguments
from metrix_ext.ops.feature_sums import feature_sums
from metrix_ext.terms.formula import Rho, flat
from metrix_ext.terms.mixes import Mixes, all_pairs
from metrix_ext.terms.pair_sets import PAIR_SETS, unordered
from metrix_ext.terms.relations import Relations
from tests.support.mixes_problems import CLASS_SIZES, sums_problem
from tests.support.op_checks import Arguments, Budget, Op
from tests.support.ops.random_inputs import permutation, random
from tests.support.problems import RHO, WITH_MARGINS, rho_of

either = (False, True)


def call_feature_sums(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    anchors: Tensor,
    order: Tensor,
    relations: Relations,
    lam: Tensor,
    rho: tuple[Rho, Rho],
    pairs: str,
    one_mix_per_pair: bool,
    average: bool,
    workspace: int,
) -> tuple[Tensor, Tensor]:
    """As mix_features calls it, with everything wanted that has a gradient."""
    related = relations.positives, relations.self_index, relations.mask
    wanted = [features.requires_grad, weight.requires_grad, anchors.requires_grad]
    options = pairs, one_mix_per_pair, average, *flat(rho, pairs), workspace, wanted
    return feature_sums(FeatureSumsArguments(features, weight, bias, anchors, order, *related, lam, *options))


def feature_sums_of_all_pairs(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    anchors: Tensor,
    order: Tensor,
    relations: Relations,
    lam: Tensor,
    rho: tuple[Rho, Rho],
    pairs: str,
    one_mix_per_pair: bool,
    average: bool,
    workspace: int,
) -> tuple[Tensor, Tensor]:
    """Every mix is formed, pooled and projected, in the reference's steps."""
    n = len(order)
    first, second = all_pairs(n, not (one_mix_per_pair or unordered(pairs)), order.device)
    mixes = Mixes.of(first, second, lam[first, second] if lam.dim() == 2 else lam.expand(len(first)), n)
    pooled = reference.mix_pool(features, order, mixes, features.mean((2, 3)) if average else None)
    projected = F.linear(pooled, weight, bias)
    both_orders = one_mix_per_pair and not unordered(pairs)
    return reference.anchor_sums(projected, anchors, relations, rho, pairs, mixes, both_orders, True)


def feature_arguments(
    pairs: str = "pos-neg",
    rho: str = "exp",
    who: str = "examples",
    one_mix_per_pair: bool = True,
    average: bool = True,
    workspace: int = 2**27,
    one_lambda: bool = False,
    sizes: tuple[int, ...] = CLASS_SIZES["ragged"],
    maps: tuple[int, int, int] = (7, 3, 2),
    size: int = 12,
) -> Arguments:
    related = sums_problem(pairs, rho, sizes, who, one_mix_per_pair, dim=size)
    n, channels = sum(sizes), maps[0]
    return {
        "features": random(n, *maps),
        "weight": random(size, channels, seed=1),
        "bias": random(size, seed=2),
        "anchors": related["anchors"],
        "order": permutation(n),
        "relations": related["relations"],
        "lam": random(*((1,) if one_lambda else (n, n)), seed=3).sigmoid(),
        "rho": rho_of(rho),
        "pairs": pairs,
        "one_mix_per_pair": one_mix_per_pair,
        "average": average,
        "workspace": workspace,
    }


def feature_variants(pairs: str, rho: str, who: str) -> Iterator[Arguments]:
    for one_mix_per_pair, average, workspace in itertools.product(either, either, (1, 2**27)):
        yield feature_arguments(pairs, rho, who, one_mix_per_pair, average, workspace)
    yield {**feature_arguments(pairs, rho, who, one_lambda=True), "bias": None}


FEATURE_SUMS = Op(
    "feature_sums",
    call_feature_sums,
    feature_sums_of_all_pairs,
    ("sums", "nonzero"),
    ("features", "weight", "bias", "anchors"),
    {
        f"{pairs}-{rho}-{who}": partial(feature_variants, pairs, rho, who)
        for pairs, rho, who in itertools.product(PAIR_SETS, RHO | WITH_MARGINS, ("examples", "mask"))
    },
    # What is kept has room for pairs that nobody uses, which stays as it was: of neg-neg all are used.
    small={
        "kept": partial(feature_arguments, "neg-neg"),
        "formed again": partial(feature_arguments, workspace=1),
        "mask": partial(feature_arguments, who="mask", workspace=1),
    },
    smooth={
        pairs: partial(feature_arguments, pairs, "nca", sizes=(2, 1, 2), maps=(2, 2, 1), size=3) for pairs in PAIR_SETS
    },
    large={"large": partial(feature_arguments, sizes=(5,) * 8, maps=(64, 3, 3), size=40, workspace=2**20)},
    wide={pairs: partial(feature_arguments, pairs, maps=(37, 3, 2), size=70) for pairs in PAIR_SETS},
    budget=Budget(1e-11, 2e-5),
    adds_in_order_of_memory=True,
)
