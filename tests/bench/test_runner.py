"""Rows: only right results get times, and what fails is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cases.pair_sums import PairSums
from bench.problems.problem import Problem
from bench.report.rows import Row
from bench.runner import Runner
from tests.bench.problems import CPU, LIMITS, QUICK, Heavy, Odd, Unknown


def compare(problem: Problem, **options: object) -> dict[str, Row]:
    runner = Runner(CPU, LIMITS, replace(QUICK, memory=2**30))
    return {row.peer: row for row in runner.compare("pair-sums", problem, **options)}


def test_only_right_results_get_times() -> None:
    rows = compare(Odd(20, 4, 8))
    right = rows["metrix_ext"]
    assert (right.status, right.exact_by, right.side_by_side) == ("ok", "reference, float64", True)
    assert right.both == right.time > 0 and right.both_20 <= right.both <= right.both_80
    assert right.share == pytest.approx(right.floor_ms / right.both)
    assert rows["wrong"].status == "wrong result" and rows["wrong"].error == pytest.approx(1e-3, rel=1e-2)
    assert rows["failing"].status == "out of memory in backward"
    assert rows["missing"].status == "unavailable: it is not here"
    assert all(rows[peer].time is None for peer in ("wrong", "failing", "missing"))


def test_nothing_is_timed_that_nothing_is_known_of() -> None:
    rows = compare(Unknown(20, 4, 8), side_by_side=False)
    assert {row.time for row in rows.values()} == {None}
    assert all("RuntimeError: no idea" in row.status for row in rows.values())


def test_another_computes_the_exact_result_where_the_reference_cannot() -> None:
    row = compare(Heavy(20, 4, 8), peers=["gram"], side_by_side=False)["gram"]
    assert (row.status, row.exact_by) == ("ok", "metrix_ext, float64")


def test_a_peer_is_timed_alone_on_demand() -> None:
    row = compare(PairSums(20, 4, 8), peers=["gram"], side_by_side=False)["gram"]
    assert row.side_by_side is False and row.rounds == 2 and row.time > 0
