"""The folder of a run."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from train.output.report import RunFolder


def test_a_new_run_leaves_no_summary_of_the_one_before(tmp_path):
    first = RunFolder(str(tmp_path))
    first.add_epoch({"epoch": 1})
    first.finish({"recall_at": {}})
    again = RunFolder(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    again.add_epoch({"epoch": 1})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
