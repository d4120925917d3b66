"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from .fit import growth
from .results import Result
from .rows import OK, Row

UNAVAILABLE = "unavailable: "


def problem_title(row: Row) -> str:
    parts = [f"n = {row.n:,}", f"{row.k} per class"]
    parts += [f"c = {row.c}"] if row.c else []
    parts += [f"d = {row.d}", row.pairs]
    parts += [f"lambda {row.lam}"] if row.lam != "" else []
    parts += ["renormalised"] if row.renormalize else []
    return ", ".join(part for part in (*parts, row.detail) if part)


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def limits(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2e}" for name, value in found.items())


def table(lines: Iterable[Sequence[str]]) -> list[str]:
    head, *rows = lines
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def problem_table(rows: Sequence[Row]) -> list[str]:
    """All peers on one problem."""
    on_gpu = any(row.kernels is not None for row in rows)
    head = ["", "forward", "backward", "both", "20 to 80 %", "times ours", "MiB", "floor", "share", "error"]
    lines = [[*head, "kernels"] if on_gpu else head]
    own = next((row.time for row in rows if row.peer == "metrix_ext"), None)
    unavailable = [row for row in rows if row.status.startswith(UNAVAILABLE)]
    for row in rows:
        if row in unavailable:
            continue
        if row.status != OK:
            lines.append([row.peer, row.status, *[""] * (len(lines[0]) - 2)])
            continue
        low, high = (row.both_20, row.both_80) if row.both is not None else (row.forward_20, row.forward_80)
        cells = [
            row.peer if row.side_by_side else f"{row.peer} (alone)",
            number(row.forward),
            number(row.backward),
            number(row.both),
            f"{number(low)} to {number(high)}",
            number(row.time / own) if row.time is not None and own else "",
            number(row.memory_mib),
            f"{number(row.floor_ms)} ({row.bound})",
            "" if row.share is None else f"{100 * row.share:.0f} %",
            "" if row.error is None else f"{row.error:.0e}",
        ]
        lines.append([*cells, "" if row.kernels is None else str(row.kernels)] if on_gpu else cells)
    missing = [f"{row.peer}, {row.status.removeprefix(UNAVAILABLE)}" for row in unavailable]
    return [*table(lines), *(["", f"Unavailable: {'; '.join(missing)}."] if missing else [])]


def scaling_tables(rows: Sequence[Row]) -> list[str]:
    """Time and memory by size, and how they grow."""
    lines: list[str] = []
    for pairs, of_pairs in groupby(rows, key=lambda row: row.pairs):
        own = list(of_pairs)
        sizes = sorted({row.n or 0 for row in own})
        peers = list(dict.fromkeys(row.peer for row in own))
        lines += [f"### {pairs}", "", "ms (MiB)", ""]
        body = [["n", *peers]]
        for n in sizes:
            at = {row.peer: row for row in own if row.n == n}
            body.append([f"{n:,}", *(_scaling_cell(at.get(peer)) for peer in peers)])
        lines += [*table(body), ""]
        fits = [["", "time", "memory", "from n", "to n", "ended by"]]
        for fit in growth(own):
            powers = ("" if power is None else f"n^{power:.1f}" for power in (fit.time, fit.memory))
            fits.append([fit.peer, *powers, f"{fit.smallest:,}", f"{fit.largest:,}", fit.ended_by])
        lines += [*table(fits), ""]
    return lines


def _scaling_cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.status == OK:
        return f"{number(row.time)} ({number(row.memory_mib)})"
    return UNAVAILABLE.strip(": ") if row.status.startswith(UNAVAILABLE) else row.status


def case_section(result: Result) -> list[str]:
    environment = result.environment
    lines = [f"## {result.case}", "", f"{environment['device']}, {environment['date']}, {environment['commit']}. "]
    lines[-1] += f"Limits measured in this run, per second: {limits(result.limits)}."
    lines.append("")
    if result.case == "scaling":
        return lines + scaling_tables(result.rows)
    for _, of_problem in groupby(result.rows, key=Row.problem):
        rows = list(of_problem)
        exact_by = next((row.exact_by for row in rows if row.exact_by), "nothing")
        lines += [f"{problem_title(rows[0])}; checked against {exact_by}", "", *problem_table(rows), ""]
    return lines


def ahead(results: Iterable[Result]) -> list[str]:
    """The rows that took less time than metrix_ext with the same problem."""
    lines = []
    for result in results:
        own = {row.problem(): row.time for row in result.rows if row.peer == "metrix_ext"}
        for row in result.rows:
            ours = own.get(row.problem())
            if row.time is not None and ours is not None and row.time < ours:
                times = f"{number(row.time)} against {number(ours)} ms"
                lines.append(
                    f"- {result.case}, {problem_title(row)}: {row.peer}, {times}, {row.time / ours:.2f} of ours"
                )
    return lines


def page(results: Iterable[Result]) -> str:
    results = list(results)
    lines = ["# Results", "", "Times in ms, medians; floor: what the measured limits allow (`bench/counts.py`).", ""]
    lines += ["## Ahead of metrix_ext", "", *(ahead(results) or ["Nothing."]), ""]
    for result in results:
        lines += case_section(result)
    return "\n".join(lines).rstrip() + "\n"
