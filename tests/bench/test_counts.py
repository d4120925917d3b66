"""What a case must do at least: terms, floors, limits of the machine, negligible groups."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench import counts, negligible
from bench.cases.feature import Feature
from bench.cases.pair_sums import PairSums
from bench.cases.recall import Recall
from bench.cases.step import TrainingStep
from bench.problems.problem import Problem
from bench.timing.limits import measure_limits
from metrix_ext import reference
from metrix_ext.losses import MultiSimilarityLoss
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.ops.class_order import class_order
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.bench.problems import CPU, LIMITS


def test_negligible_terms_are_terms_of_the_sums() -> None:
    n, per_class = 24, 3
    x, index = negligible.embeddings(0.5, n, per_class, 16), torch.arange(n)
    lam, rho, gram = pair_lambda(0, index, index, 2.0, torch.float64), MultiSimilarityLoss().formula.rho, x @ x.T
    _, relations = class_order(index // per_class)
    sums, _ = pair_sums(gram, relations, rho, "pos-neg", lam, gram)
    for side, weights in enumerate((lam, 1 - lam)):
        terms = [t * torch.tensor(2.0).log() for t in negligible.log_terms(x, lam, rho[side], weights, per_class)]
        torch.testing.assert_close(torch.stack([t.flatten().logsumexp(0) for t in terms]), sums[:, side])


def test_negligible_groups_are_negligible_throughout() -> None:
    """Two classes of 32 along two axes, but for 8 examples of the second, which lie with the first."""
    x = torch.eye(2, dtype=torch.float64).repeat_interleave(32, 0)
    x[32:40] = x[0]
    half = torch.full((64, 64), 0.5, dtype=torch.float64)
    found = negligible.shares(x, half, Rho(200.0), half, 32)
    # First class: the 8 columns outweigh 24. The 8: firsts of their kind outweigh 24 rows. The others: 8 rows likewise.
    rows = 8 * 24 + 24 * 8
    assert found[32] == pytest.approx(rows / (64 * 31))
    assert found[16] == pytest.approx((32 * 31 + 2 * rows) / (64 * 31 * 2))
    assert found[1] == pytest.approx((32 * 31 * 24 + 32 * rows) / (64 * 31 * 32))


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_terms_are_those_of_the_definition(pairs: str) -> None:
    n, k = 12, 3
    labels = torch.arange(n) // k
    both = [0, 0]
    for a in range(n):
        positives = ((labels == labels[a]) & (torch.arange(n) != a)).nonzero()[:, 0]
        negatives = (labels != labels[a]).nonzero()[:, 0]
        if pairs == "clean":
            sizes = len(positives), len(negatives)
        else:
            (first, _), label = reference.mixing_pairs(pairs, positives, negatives)
            sizes = len(first) * (label != 0.0), len(first) * (label != 1.0)
        both = [total + size for total, size in zip(both, sizes, strict=True)]
    assert counts.terms(n, k, pairs) == tuple(both)


def test_floor_is_the_slowest_resource_of_each_stage_in_turn() -> None:
    stages = [counts.Stage(exponentials=2e6, bytes=1e7), counts.Stage(flops=4e7, dtype="bfloat16", bytes=5e6)]
    assert counts.floor(stages, LIMITS) == pytest.approx(2.0 + 1.0)
    assert counts.binding(stages, LIMITS) == "exp"


@pytest.mark.parametrize(
    "problem", [PairSums(100, 5), Feature(100, 5), Recall(100, 5), TrainingStep(100, 5, 224, "feature")], ids=repr
)
def test_counts_grow_with_the_batch(problem: Problem) -> None:
    def floor(one: Problem) -> float:
        return sum(counts.floor(stages, LIMITS) for stages in one.counts().values())

    assert 0 < floor(problem) < floor(replace(problem, n=200))


def test_limits_are_measured() -> None:
    found = measure_limits(CPU)
    assert set(found) == {"exp", "bytes", "product_float32", "product_bfloat16"}
    assert all(1e6 < value < 1e16 for value in found.values())
