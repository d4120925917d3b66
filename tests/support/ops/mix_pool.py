"""mix_pool and its problems."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from metrix_ext import reference
from metrix_ext.ops.mix_pool import mix_pool
from tests.support.mixes_problems import POOL_LAYOUTS, POOL_SHAPES, pool_problem
from tests.support.op_checks import Arguments, BadArguments, Budget, Op
from tests.support.ops.random_inputs import random

either = (False, True)


def pool_variants(shape: tuple[int, int, int, int], layout: str) -> Iterator[Arguments]:
    """Half of the features are 0: of equal maxima the first takes the gradient, as with max_pool2d."""
    for ordered, shuffle, with_averages in itertools.product(either, either, either):
        arguments = pool_problem(shape, layout, ordered, shuffle)
        yield arguments if with_averages else {**arguments, "averages": None}


def smooth_pool() -> Arguments:
    arguments = pool_problem((4, 3, 2, 2))
    return {**arguments, "features": random(*arguments["features"].shape)}


def bad_pool_arguments(arguments: Arguments) -> BadArguments:
    features, order, mixes, averages = (arguments[name] for name in ("features", "order", "mixes", "averages"))
    return [
        ({"features": features[0]}, ValueError, "features"),
        ({"features": features[..., :0]}, ValueError, "positions"),
        ({"features": features[:, :, :1, :1].expand(-1, -1, 256, 128)}, ValueError, "positions"),
        ({"order": order[1:]}, ValueError, "order"),
        ({"order": order.int()}, ValueError, "order"),
        ({"mixes": replace(mixes, lam=mixes.lam.float())}, ValueError, "mixes.lam"),
        ({"averages": averages[:, 1:]}, ValueError, "averages"),
        ({"averages": averages.float()}, ValueError, "averages"),
        ({"features": features.long()}, TypeError, "features"),
    ]


MIX_POOL = Op(
    "mix_pool",
    mix_pool,
    reference.mix_pool,
    ("pooled",),
    ("features", "averages"),
    {
        f"{shape}-{layout}": partial(pool_variants, shape, layout)
        for shape, layout in itertools.product(POOL_SHAPES, POOL_LAYOUTS)
    },
    small={
        "with averages": lambda: pool_problem((6, 20, 3, 2)),
        "without averages": lambda: {**pool_problem((6, 20, 3, 2)), "averages": None},
    },
    smooth={"no ties": smooth_pool},
    large={layout: partial(pool_problem, (21, 300, 3, 3), layout) for layout in POOL_LAYOUTS},
    wide={layout: partial(pool_problem, (11, 37, 3, 2), layout) for layout in POOL_LAYOUTS},
    budget=Budget(1e-13, 1e-6),
    half=("features",),
    bad=bad_pool_arguments,
)
