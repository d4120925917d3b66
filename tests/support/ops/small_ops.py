"""The ops around the sums and their problems: gram, product, unit_rows, class_order, pair_lambda, mean_loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.ops.class_order import class_order
from metrix_ext.ops.gram import gram
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.pair_lambda import pair_lambda
from metrix_ext.ops.product import product
from metrix_ext.ops.unit_rows import unit_rows
from metrix_ext.terms.formula import Formula, mean
from tests.support.op_checks import Arguments, BadArguments, Budget, Op
from tests.support.ops.random_inputs import as_reference, permutation, random

either = (False, True)


GRAM_SHAPES = ((0, 3), (1, 1), (2, 0), (3, 5), (7, 64), (33, 70), (150, 133), (300, 40))
UNIT_SHAPES = ((7, 5), (1, 1), (33, 512), (0, 4), (130, 65), (10, 31), (7, 32), (5, 100), (0, 3))


def matrix(*shape: int) -> Arguments:
    return {"x": random(*shape)}


GRAM = Op(
    "gram",
    gram,
    as_reference(gram),
    ("products",),
    ("x",),
    {str(shape): lambda shape=shape: iter((matrix(*shape),)) for shape in GRAM_SHAPES},
    small={"small": partial(matrix, 6, 9)},
    large={"large": partial(matrix, 130, 90)},
    wide={str(shape): partial(matrix, *shape) for shape in ((33, 70), (150, 133))},
    budget=Budget(1e-13, 1e-6),
)


def factors(rows: int, inner: int, columns: int) -> Arguments:
    return {"a": random(rows, inner), "b": random(inner, columns, seed=1)}


def bad_factors(arguments: Arguments) -> BadArguments:
    b = arguments["b"]
    return [
        ({"a": arguments["a"].half()}, TypeError, "a: got torch.float16"),
        ({"b": b.float()}, TypeError, "b: got torch.float32, expected torch.float64 as a"),
        ({"b": b[:, 0]}, ValueError, "b: got"),
        ({"b": b[1:]}, ValueError, r"b: got \[8, 5\], expected \[9, n\] for a of \[6, 9\]"),
        ({"b": b.to("meta")}, ValueError, "b: is on meta, expected cpu as a"),
    ]


PRODUCT = Op(
    "product",
    product,
    as_reference(product),
    ("products",),
    ("a", "b"),
    {
        str(shape): lambda shape=shape: iter((factors(*shape),))
        for shape in ((0, 3, 2), (2, 0, 3), (1, 1, 1), (7, 64, 33))
    },
    small={"small": partial(factors, 6, 9, 5)},
    large={"large": partial(factors, 130, 90, 60)},
    wide={"wide": partial(factors, 33, 70, 20)},
    budget=Budget(1e-13, 1e-6),
    bad=bad_factors,
)


def rows(shape: tuple[int, int], tiny: bool = False) -> Arguments:
    """``tiny``: a third of them is shorter than the smallest norm that is divided by, and their gradients are huge."""
    x = random(*shape)
    x[::3] *= 1e-14 if tiny else 1.0
    return {"x": x, "order": permutation(shape[0])}


UNIT_ROWS = Op(
    "unit_rows",
    unit_rows,
    lambda x, order: F.normalize(x)[order],
    ("unit",),
    ("x",),
    {
        f"{shape}{'-tiny' * tiny}": lambda shape=shape, tiny=tiny: iter((rows(shape, tiny),))
        for shape, tiny in itertools.product(UNIT_SHAPES, either)
    },
    small={"small": partial(rows, (6, 9))},
    large={"large": partial(rows, (130, 65))},
    wide={"wide": partial(rows, (33, 512))},
    budget=Budget(1e-12, 2e-6, smallest=1e-3),  # in one dimension the gradient cancels to nothing
)


def sorted_classes(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    order, relations = class_order(labels)
    return order, relations.positives, relations.self_index


def labels(n: int, low: int = -3, high: int = 30) -> Arguments:
    return {"labels": torch.randint(low, high, (n,), generator=torch.Generator().manual_seed(n))}


CLASS_ORDER = Op(
    "class_order",
    sorted_classes,
    as_reference(sorted_classes),
    ("order", "positives", "self_index"),
    (),
    {
        f"{n}-{low}-{high}": lambda n=n, low=low, high=high: iter((labels(n, low, high),))
        for n, (low, high) in itertools.product((0, 1, 100, 256, 700), ((-3, 30), (-(2**62), 2**62), (7, 8)))
    },
    small={"small": partial(labels, 20, 0, 4)},
    large={"large": partial(labels, 5000, 0, 300)},
    wide={"wide": partial(labels, 700)},
    budget=Budget(0.0, 0.0),
)


def lambdas(alpha: float = 2.0, seed: int = -3, n: int = 40) -> Arguments:
    """Of some examples with some, whose numbers need more than 32 bits."""
    ids = torch.cat((permutation(n), torch.tensor([2**31, 2**32 + 5, 2**40])))
    return {"seed": seed, "rows": ids[: n // 3], "columns": ids, "alpha": alpha, "dtype": torch.float64}


def bad_lambda_arguments(arguments: Arguments) -> BadArguments:
    ids = arguments["rows"]
    return [
        ({"alpha": 0.0}, ValueError, "alpha"),
        ({"rows": ids.float()}, ValueError, "rows"),
        ({"columns": ids[None]}, ValueError, "columns"),
        ({"seed": 2**63}, ValueError, "seed"),
        ({"seed": torch.rand(1)}, ValueError, "seed"),
        ({"dtype": torch.float16}, TypeError, "dtype"),
    ]


PAIR_LAMBDA = Op(
    "pair_lambda",
    pair_lambda,
    reference.pair_lambda,
    ("lam",),
    (),
    {
        f"{alpha}": lambda alpha=alpha: (lambdas(alpha, seed) for seed in (0, 5, -3, 2**62))
        for alpha in (0.05, 0.4, 0.5, 1.0, 2.0)
    },
    small={"small": partial(lambdas, seed=1, n=5)},
    large={"large": partial(lambdas, n=200)},
    wide={"wide": partial(lambdas, n=100)},
    budget=Budget(1e-13, 1e-7),
    bad=bad_lambda_arguments,
)


FORMULAS = {
    name: getattr(mx.losses, name)().formula
    for name in ("ContrastiveLoss", "LiftedStructureLoss", "NCALoss", "MultiSimilarityLoss", "BinomialDevianceLoss")
}


def loss_arguments(formula: Formula, with_mixed: bool = True, anchors: int = 40, extremes: bool = False) -> Arguments:
    """Random sums; ``extremes`` adds empty sets, huge sums and zeros."""
    sums = [4 * random(anchors, 2, seed=seed) for seed in (0, 1)]
    if extremes:
        none = -math.inf if formula.exponential else 0.0
        more = [[none, 1.0], [2.0, none], [none, none], [90.0, -90.0], [-800.0, 800.0], [0.0, 0.0]]
        sums = [torch.cat((t, torch.tensor(more, dtype=torch.float64))) for t in sums]
    return {"sums": sums[0], "formula": formula, "mixed": sums[1].flip(0) if with_mixed else None, "strength": 0.3}


def loss_variants(formula: Formula) -> Iterator[Arguments]:
    for with_mixed in either:
        for anchors in (0, 1, 40, 300):
            yield loss_arguments(formula, with_mixed, anchors)
        yield loss_arguments(formula, with_mixed, extremes=True)


def mean_of_formula(sums: Tensor, formula: Formula, mixed: Tensor | None, strength: float) -> Tensor:
    alone = mean(formula.per_anchor(sums))
    return alone if mixed is None else alone + strength * mean(formula.per_anchor(mixed))


MEAN_LOSS = Op(
    "mean_loss",
    mean_loss,
    mean_of_formula,
    ("loss",),
    ("sums", "mixed"),
    {name: partial(loss_variants, formula) for name, formula in FORMULAS.items()},
    small={
        "with mixed": partial(loss_arguments, FORMULAS["MultiSimilarityLoss"], True, 5),
        "without mixed": partial(loss_arguments, FORMULAS["MultiSimilarityLoss"], False, 5),
    },
    smooth={name: partial(loss_arguments, formula, True, 5) for name, formula in FORMULAS.items()},
    large={"large": partial(loss_arguments, FORMULAS["MultiSimilarityLoss"], True, 20000)},
    wide={name: partial(loss_arguments, formula) for name, formula in FORMULAS.items()},
    budget=Budget(1e-13, 2e-6),
)
