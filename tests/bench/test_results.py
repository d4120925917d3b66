"""Results on disk, in README and on their pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

<<<<<<< HEAD
from bench import __main__ as command_line
from bench import counts, negligible
from bench.cases.feature import Feature
from bench.cases.pair_sums import PairSums
from bench.cases.recall import Recall
from bench.cases.step import TrainingStep
from bench.gpu import checks as gpu_checks
from bench.gpu import session as gpu
from bench.gpu.record import Record
from bench.problems.problem import Problem, Step, error
from bench.report import fit, results, tables
from bench.report import readme as report
from bench.report.rows import Row
from bench.runner import Budget, Runner
from bench.timing import isolate
from bench.timing.isolate import Failed
from bench.timing.limits import measure_limits
from bench.timing.measure import Clock, PeakMemory, Timing, time_side_by_side
from metrix_ext import reference
from metrix_ext.losses import MultiSimilarityLoss
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.ops.class_order import class_order
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.pair_sets import PAIR_SETS

CPU = torch.device("cpu")
LIMITS = {"exp": 1e9, "product_float32": 1e10, "product_bfloat16": 4e10, "bytes": 1e10}
QUICK = Budget(rounds=2, seconds=0.1, limit=60.0)


# ---- counts, limits, fits ------------------------------------------------------------------------------------


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


def test_exponent_of_a_power_law() -> None:
    assert fit.exponent([64, 256, 1024], [3e-4 * n**2.5 for n in (64, 256, 1024)]) == pytest.approx(2.5)
    assert fit.exponent([64, 256], [1.0, None]) is None
    assert fit.exponent([64, 64], [1.0, 2.0]) is None


def test_growth_is_of_the_largest_sizes_and_says_what_ended_it() -> None:
    # Calls cost 5 ms whatever the size: over all sizes the exponent would be well below 2.
    rows = [
        Row("scaling", "gram", n=n, pairs="clean", both=5 + 1e-6 * n**2, memory_mib=n / 1e3)
        for n in (64, 1024, 16384, 65536, 262144)
    ]
    rows.append(Row("scaling", "gram", "out of memory in forward", n=1048576, pairs="clean"))
    (found,) = fit.growth(rows)
    assert found.time == pytest.approx(2.0, abs=0.01) and found.memory == pytest.approx(1.0)
    assert (found.smallest, found.largest) == (16384, 262144)
    assert found.ended_by == "out of memory in forward at n = 1,048,576"


# ---- measuring -----------------------------------------------------------------------------------------------


def test_quantiles() -> None:
    assert Timing.of([5.0, 1.0, 2.0, 4.0, 3.0, 6.0]) == Timing(3.5, 2.0, 5.0, 6)


def test_side_by_side_takes_turns_and_stops_early() -> None:
    turns: list[str] = []

    def step(name: str) -> Step:
        return Step({"forward": lambda: (turns.append(name), time.sleep(0.06))}, list)

    found = time_side_by_side({"a": step("a"), "b": step("b")}, Clock(CPU), rounds=50, seconds=0.0)
    assert turns == ["a", "a", "b", "b", *["a", "b"] * 3]
    assert found["a"]["forward"].rounds == 3
    assert 60 <= found["a"]["forward"].median < 120


def test_peak_memory_is_of_the_block_alone() -> None:
    def peak(mib: int) -> float:
        with PeakMemory(CPU) as memory:
            for _ in range(2):
                torch.ones(mib * 2**18)
        return memory.mib

    peak(300)
    assert peak(100) == pytest.approx(100, abs=20)


def test_error() -> None:
    exact = [torch.tensor(2.0), torch.tensor([3.0, 4.0])]
    assert error([torch.tensor(2.0), torch.tensor([3.0, 4.5])], exact) == pytest.approx(0.1)
    assert error([torch.tensor(float("nan")), exact[1]], exact) == float("inf")
    assert error(exact[:1], exact) == float("inf")


# ---- peers ---------------------------------------------------------------------------------------------------


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


# ---- processes with limits -----------------------------------------------------------------------------------


def answers(report: isolate.Report, x: int) -> int:
    report("thinking")
    return 2 * x


def raises(report: isolate.Report) -> None:
    report("forward")
    raise ValueError("no such thing")


def sleeps(report: isolate.Report, pid_file: str) -> None:
    report("backward")
    child = subprocess.Popen(["sleep", "60"])
    Path(pid_file).write_text(str(child.pid))
    time.sleep(60)


def takes_memory(report: isolate.Report) -> None:
    report("forward")
    torch.ones(2**30)


def is_killed(report: isolate.Report) -> None:
    report("forward")
    os.kill(os.getpid(), signal.SIGKILL)


def test_process_gives_its_result() -> None:
    assert isolate.run(answers, 21, seconds=60) == 42


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, "ValueError: no such thing in forward"),
        (takes_memory, "out of memory in forward"),
        (is_killed, "killed (out of memory?) in forward"),
    ],
)
def test_what_ends_a_process_is_said_with_where(function: Callable[..., None], said: str) -> None:
    with pytest.raises(Failed) as failure:
        isolate.run(function, seconds=60, memory=2**30)
    assert str(failure.value) == said


def test_time_limit_ends_what_the_process_has_started_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    isolate.run(answers, 0, seconds=60)  # the server is up
    with pytest.raises(Failed, match="time limit of 3 s in backward"):
        isolate.run(sleeps, str(pid_file), seconds=3)
    with pytest.raises(ProcessLookupError):
        _until_gone(int(pid_file.read_text()))


def _until_gone(pid: int) -> None:
    for _ in range(100):
        os.kill(pid, 0)
        time.sleep(0.05)


def test_no_process_without_time() -> None:
    with pytest.raises(Failed, match="no time was left"):
        isolate.run(answers, 1, seconds=0)


# ---- rows ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd(PairSums):
    """Peers that are right, wrong, fail in backward of all but the tiniest problem, and cannot do it."""

    peers = ("metrix_ext", "wrong", "failing", "missing")

    def step(self, peer: str, device: torch.device) -> Step:
        right = super().step("metrix_ext", device)
        if peer == "wrong":
            return Step(right.parts, lambda: [1.001 * value for value in right.result()])
        if peer == "failing" and self != self.tiny():
            return Step({**right.parts, "backward": lambda: takes_memory(lambda _: None)}, right.result)
        if peer == "missing":
            raise isolate.Unavailable("it is not here")
        return right


class Unknown(Odd):
    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        raise RuntimeError("no idea")


class Heavy(PairSums):
    """The reference runs out of memory."""

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        if by == "reference":
            takes_memory(lambda _: None)
        return super().truth(by, device)


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


# ---- results and README --------------------------------------------------------------------------------------


def a_result(**numbers: object) -> results.Result:
    environment = {
        "device": "A processor",
        "threads": 2,
        "instruction_set": "avx2",
        "date": "2026-01-02 03:04 UTC",
        "commit": "abc",
        "versions": {"torch": "2.9"},
    }
    problem = {"n": 100, "k": 5, "d": 512, "pairs": "pos-neg", "lam": "per pair", "renormalize": True}
    rows = [
        Row("pair-sums", "metrix_ext", **problem, forward=1.0, backward=1.5, both=2.5, side_by_side=True, **numbers),
        Row("pair-sums", "gram", **problem, forward=10.0, backward=20.0, both=30.0, side_by_side=True),
        Row("pair-sums", "reference", "out of memory in forward", **problem),
    ]
    return results.Result("pair-sums", environment, LIMITS, rows)
=======
from bench import report, results, tables
from bench.rows import Row
from tests.bench.problems import LIMITS, a_result
>>>>>>> 0411bdf (Tests of the benchmark: one file per file of bench; turns are timed by a clock that only they move)


def test_results_survive_the_disk(tmp_path: Path) -> None:
    written = a_result(error=float("inf"), memory_mib=12.34567)
    results.write(tmp_path, written)
    (read,) = results.read(tmp_path).values()
    assert read.rows[1:] == written.rows[1:]
    assert read.rows[0] == replace(written.rows[0], error=None, memory_mib=12.35)
    assert read.environment == written.environment and read.limits == LIMITS
    lines = (tmp_path / "pair-sums.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("case,peer,status,n,k")


def test_section_shows_times_and_failures() -> None:
    section = report.speed_section({"a-processor": {"pair-sums": a_result()}})
    assert "| embed, pos-neg, n = 100, 5 per class | 2.50 | 30.0 (12.0) | out of memory in forward |" in section
    assert "A processor" in section and "There are no timings of a GPU yet." in section
    assert report.speed_section({}) == "There are no results yet.\n"


def test_page_shows_every_row() -> None:
    page = tables.page([a_result()])
    assert "out of memory in forward" in page and "| gram | 10.0 | 20.0 | 30.0 |" in page


def test_page_names_who_is_ahead() -> None:
    assert "## Ahead of metrix_ext\n\nNothing." in tables.page([a_result()])
    result = a_result()
    faster = [replace(row, both=2.0) if row.peer == "gram" else row for row in result.rows]
    page = tables.page([replace(result, rows=faster)])
    assert "- pair-sums, n = 100, 5 per class, d = 512, pos-neg" in page
    assert "gram, 2.00 against 2.50 ms, 0.80 of ours" in page


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.between_markers(text, "new\n") == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="expected the lines"):
        report.between_markers("neither", "new")


def test_readme_agrees_with_the_results() -> None:
    text = report.README.read_text()
    assert text == report.between_markers(text, report.speed_section(report.all_results())), (
        "README.md and bench/results disagree: run python -m bench.report"
    )


def test_pages_agree_with_the_results() -> None:
    for folder, found in report.all_results().items():
        assert (results.FOLDER / folder / "results.md").read_text() == tables.page(found.values()), folder


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [Row("scaling", "gram", n=n, pairs="clean", both=1.0 * n, memory_mib=0.1 * n) for n in (64, 256)]
    results.write(tmp_path, replace(a_result(), case="scaling", rows=rows))
    report.write_page(tmp_path)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("time.png", "memory.png"))
    assert "n^1.0" in (tmp_path / "results.md").read_text()
