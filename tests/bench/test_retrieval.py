"""python -m bench.retrieval."""

from __future__ import annotations

import pytest

from bench import retrieval
from bench.retrieval import DEEP, PRECISE, TASKS, Measured, UnseenImages
from bench.timing.isolate import Failed, Unavailable

SMALL = UnseenImages(1500, 300, 32)  # more images than the largest K


def test_every_class_has_two_images_at_least() -> None:
    x, labels = SMALL.make()
    counts = labels.bincount()
    assert x.shape == (1500, 32) and len(counts) == 300 and int(counts.min()) == 2
    assert labels.equal(labels.sort().values) and x.norm(dim=1).allclose(x.new_ones(1500))


@pytest.mark.parametrize("task", TASKS, ids=[" ".join(task) for task in TASKS])
def test_all_peers_agree(task: tuple[str, ...]) -> None:
    inputs = SMALL.make()
    found: dict[str, Measured | str] = {}
    for name, peer in TASKS[task].items():
        try:
            found[name] = Measured(peer(*inputs, 1), 1.0, 1.0, 1.0)
        except Unavailable as missing:
            found[name] = str(missing)
    ours = next(iter(found.values()))
    assert isinstance(ours, Measured) and 0 < ours.figures["R@1"] < 1
    assert not retrieval.disagreements(task, found)


def test_the_table_has_figures_or_the_reason_why_there_are_none() -> None:
    found = {"a": Measured(dict.fromkeys(PRECISE, 0.5), 12.3, 20.0, 456.0), "b": "out of memory in search"}
    assert retrieval.lines(PRECISE, found)[2:] == [
        "| a | 50.00 | 50.00 | 50.00 | 12.3 | 20.0 | 456 |",
        "| b | out of memory in search |  |  |  |  |  |",
    ]


def test_figures_that_differ_are_named_and_fail_the_command(monkeypatch, capsys) -> None:
    def compare(task, *_):
        figures = {"a": 0.5, "b": 0.502}
        return {name: Measured(dict.fromkeys(task, 0.5) | {"R@1": r}, 1.0, 1.0, 1.0) for name, r in figures.items()}

    monkeypatch.setattr(retrieval, "compare", compare)
    assert retrieval.main(["--quick"]) == 1
    assert capsys.readouterr().err == "the peers disagree on R@1, R@1\n"
    monkeypatch.setattr(retrieval, "AGREE", 0.01)
    assert retrieval.main(["--quick"]) == 0


def test_peers_take_turns_and_the_median_counts(monkeypatch) -> None:
    seconds = iter([5.0, 1.0, 2.0])
    turns = []

    def run(measure, task, peer, *_, **limits):
        turns.append(peer)
        if peer == "metrix_ext, recall_at_k":
            return Measured({}, next(seconds), 1.0, 1.0)
        raise Failed("time limit of 9 s in search")

    monkeypatch.setattr(retrieval, "run", run)
    found = retrieval.compare(DEEP, SMALL, threads=1, rounds=3, limit=9)
    assert found["metrix_ext, recall_at_k"].seconds == 2.0
    assert found["faiss, IndexFlatIP"] == "time limit of 9 s in search"
    assert turns.count("metrix_ext, recall_at_k") == 3 and turns.count("faiss, IndexFlatIP") == 1


def test_a_peer_runs_in_a_process_of_its_own_with_a_limit(monkeypatch) -> None:
    monkeypatch.setitem(TASKS, DEEP, {"metrix_ext, recall_at_k": retrieval.ours_deep})
    (measured,) = retrieval.compare(DEEP, SMALL, threads=1, rounds=1, limit=100).values()
    assert isinstance(measured, Measured)
    assert measured.figures == retrieval.ours_deep(*SMALL.make(), 1) and measured.seconds > 0
    assert list(retrieval.compare(DEEP, SMALL, threads=1, rounds=1, limit=0).values()) == ["not run: no time was left"]
