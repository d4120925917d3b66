"""The folder of a run."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from train.errors import UserError
from train.output.report import RunFolder


def finished_run(path, **options):
    run = RunFolder(path and str(path), **options)
    run.start()
    run.add_epoch({"epoch": 1})
    run.finish({"recall_at": {}})
    return run


def test_a_new_run_leaves_no_summary_of_the_one_before(tmp_path):
    finished_run(tmp_path)
    again = RunFolder(str(tmp_path), overwrite=True)
    again.start()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    again.add_epoch({"epoch": 1})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


@pytest.mark.parametrize("left", ["summary.json", "checkpoint.pt", "metrics.jsonl", "curves.png", "report.html"])
def test_a_folder_that_holds_a_run_is_refused_and_kept(tmp_path, left):
    (tmp_path / left).write_text("of hours")
    with pytest.raises(UserError, match="holds another run: give another folder, --resume"):
        RunFolder(str(tmp_path))
    RunFolder(str(tmp_path), overwrite=True)  # replaces it when the run starts, not before
    assert (tmp_path / left).read_text() == "of hours"


def test_a_run_that_was_refused_leaves_a_folder_to_use(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "notes.txt").write_text("of mine")
    finished_run(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "of mine"


def test_without_a_folder_the_run_before_moves_aside(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        finished_run(None)
    assert sorted(run.name for run in (tmp_path / "runs").iterdir()) == ["latest", "latest-1", "latest-2"]
    assert all((run / "summary.json").exists() for run in (tmp_path / "runs").iterdir())
    finished_run(None, overwrite=True)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    assert capsys.readouterr().out.count("the run before is now in runs") == 2
