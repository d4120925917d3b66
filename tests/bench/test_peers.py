"""Every peer computes what the reference does."""

from __future__ import annotations

import pytest
import torch

from bench.cases.feature import Feature
from bench.cases.pair_sums import PairSums
from bench.cases.recall import Recall
from bench.problems.problem import Problem, error
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.bench.problems import CPU


def wrong_by(problem: Problem, peer: str) -> float:
    step = problem.step(peer, CPU)
    for part in step.parts.values():
        part()
    return error(step.result(), problem.truth(problem.exact[0], CPU))


@pytest.mark.parametrize("peer", ["metrix_ext", "gram", "gathered", "reference"])
@pytest.mark.parametrize("lam", [None, 0.3])
@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_peers_of_pair_sums_agree(pairs: str, lam: float | None, peer: str) -> None:
    assert wrong_by(PairSums(20, 4, 8, pairs, lam), peer) < PairSums.tolerance


def test_pml_agrees() -> None:
    pytest.importorskip("pytorch_metric_learning")
    assert wrong_by(PairSums(20, 4, 8, "clean"), "pml") < PairSums.tolerance
    assert wrong_by(Recall(60, 5, 8), "pml") == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "lam"), [("clean", None), ("anc-neg", 0.3), ("pos-neg", 0.3)])
def test_keops_agrees(pairs: str, lam: float | None) -> None:
    pytest.importorskip("pykeops")
    assert wrong_by(PairSums(20, 4, 8, pairs, lam), "keops") < PairSums.tolerance


@pytest.mark.parametrize("peer", ["metrix_ext", "materialised", "reference"])
def test_peers_of_features_agree(peer: str) -> None:
    assert wrong_by(Feature(12, 3, c=8, side=3, d=8), peer) < Feature.tolerance


@pytest.mark.parametrize("peer", ["metrix_ext", "torch"])
def test_peers_of_recall_agree(peer: str) -> None:
    assert wrong_by(Recall(60, 5, 8, (1, 4)), peer) == 0.0


def test_exact_results_of_features_are_those_of_all_anchors_at_once() -> None:
    problem = Feature(12, 3, c=8, side=3, d=8)
    by_anchor = problem.truth("reference", CPU)
    features, embeddings, labels, head = problem.inputs(CPU, torch.float64)
    from bench.peers import literal

    whole = literal.feature(problem, embeddings, labels, head)(features)
    assert float(by_anchor[0]) == pytest.approx(whole.item(), rel=1e-12)
