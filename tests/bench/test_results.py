"""Results on disk, in README and on their pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.report import readme as report
from bench.report import results, tables
from bench.report.rows import Row
from tests.bench.problems import LIMITS, a_result


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
