"""``python -m bench.report``: the Speed table of README.md, and the pages and plots of bench/results, from the results.

The table stands between two comments in README.md; what is around it is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..timing.environment import ROOT
from . import plots, results, tables
from .results import Result
from .rows import OK, Row

README = ROOT / "README.md"
BEGIN = "<!-- speed: python -m bench.report writes what is between these two comments -->"
END = "<!-- /speed -->"
SHOWN = (
    "metrix_ext",
    "gram",
    "gram-compiled",
    "gathered",
    "gathered-compiled",
    "materialised",
    "materialised-compiled",
    "reference",
)
CASES = ("pair-sums", "feature")
SETS = ("clean", "pos-neg", "anc-neg")  # what training uses; the others are in the page of the device


def speed_section(devices: Mapping[str, Mapping[str, Result]]) -> str:
    """What README says of all devices."""
    if not any(case in device for device in devices.values() for case in CASES):
        return "There are no results yet.\n"
    lines: list[str] = []
    for folder, cases in devices.items():
        rows = [row for case in CASES if case in cases for row in cases[case].rows if _shown(row)]
        if rows:
            lines += _device(folder, cases, rows)
    if not any("gpu" in result.environment for device in devices.values() for result in device.values()):
        lines += ["There are no timings of a GPU yet.", ""]
    return "\n".join(lines)


def _shown(row: Row) -> bool:
    return row.peer in SHOWN and row.pairs in SETS and row.lam in ("", "per pair")


def _device(folder: str, cases: Mapping[str, Result], rows: Sequence[Row]) -> list[str]:
    peers = [peer for peer in SHOWN if any(row.peer == peer for row in rows)]
    environment = next(cases[case].environment for case in CASES if case in cases)
    versions = environment["versions"]
    assert isinstance(versions, Mapping)
    where = f"**{environment['device']}**"
    if "gpu" not in environment:
        where += f", {environment['threads']} threads ({environment['instruction_set']})"
    where += f", torch {versions['torch']}, {str(environment['date'])[:10]}"
    body = [["ms, median (times ours)", *peers]]
    for problem in dict.fromkeys(row.problem() for row in rows):
        of_problem = {row.peer: row for row in rows if row.problem() == problem}
        first = next(iter(of_problem.values()))
        own = of_problem["metrix_ext"].time if "metrix_ext" in of_problem else None
        body.append([_title(first), *(_cell(of_problem.get(peer), own) for peer in peers)])
    link = f"[All of it](bench/results/{folder}/results.md)."
    plot = f"bench/results/{folder}/{plots.TIME}"
    picture = [f"![Time against n]({plot})", ""] if (ROOT / plot).exists() else []
    return [f"{where}. {link}", "", *tables.table(body), "", *picture]


def _title(row: Row) -> str:
    what = "clean" if row.pairs == "clean" else f"{'feature' if row.c else 'embed'}, {row.pairs}"
    return f"{what}, n = {row.n:,}, {row.k} per class"


def _cell(row: Row | None, own: float | None) -> str:
    if row is None:
        return ""
    if row.status != OK or row.time is None:
        return row.status
    if row.peer == "metrix_ext" or not own:
        return tables.number(row.time)
    return f"{tables.number(row.time)} ({tables.number(row.time / own)})"


def all_results() -> dict[str, dict[str, Result]]:
    """By folder of bench/results, then by case. A folder may have profiles alone (bench.gpu.profile)."""
    folders = sorted(path for path in results.FOLDER.glob("*") if path.is_dir())
    return {path.name: found for path in folders if (found := results.read(path))}


def between_markers(text: str, section: str) -> str:
    """The text with what is between the markers replaced.

    Raises:
        ValueError: there is not each marker once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"text: expected the lines {BEGIN!r} and {END!r} in it")
    return f"{before}{begin}\n\n{section}\n{end}{after}"


def write_page(folder: Path) -> None:
    """results.md and, with matplotlib, the plots of a folder of results."""
    found = results.read(folder)
    (folder / "results.md").write_text(tables.page(found.values()))
    if "scaling" in found:
        try:
            plots.scaling_plots(folder, found["scaling"])
        except ImportError as error:
            print(f"no plots: {error}", file=sys.stderr)


def main() -> int:
    devices = all_results()
    for folder in devices:
        write_page(results.FOLDER / folder)
    README.write_text(between_markers(README.read_text(), speed_section(devices)))
    return 0
