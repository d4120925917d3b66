"""What a study found: a table for each problem in Markdown, all of them in one CSV, and recall against the strength."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import UserError
from ..files import replacing
from .comparison import AT_END, EARLY_STOPPING, PROBLEM, Arm, Compared, Key, against_clean, problems
from .results import Row

TABLES, FIGURES = "tables.md", "tables.csv"
HEAD = "arm", "Recall@1", "against clean", "p", "p (Holm)", "gap", "chosen", "tried"


def write(rows: Sequence[Row], out: Path) -> None:
    """tables.md, tables.csv and strength.svg into the folder."""
    of_problems = {key: arms for key, arms in problems(rows).items() if arms[0].name == "clean"}
    if not of_problems:
        raise UserError("there is no clean run (mix none, control none) to compare with")
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / TABLES) as file:
        file.write("\n".join(_markdown(of_problems)).encode())
    with replacing(out / FIGURES) as file:
        file.write(_csv(of_problems).encode())
    _plot(of_problems, out / "strength.svg")
    print(f"{out / TABLES}: {len(rows)} runs, {len(of_problems)} problems")


def title(key: Key) -> str:
    of = dict(zip(PROBLEM, key, strict=True))
    options = "".join(f", {name} {value}" for name, value in of["loss_options"])
    classes = f"{of['classes']} classes" if of["classes"] else "all classes"
    return f"{of['data']}, {of['trained']}, {of['loss']}{options}, {classes}, {of['steps']} steps"


def _markdown(of_problems: dict[Key, list[Arm]]) -> Iterator[str]:
    for key, arms in of_problems.items():
        yield f"## {title(key)}\n"
        for words, figure in (("At the last step", AT_END), ("Stopped early, by validation classes", EARLY_STOPPING)):
            compared = against_clean(arms, figure)
            yield f"{words}; {compared[0].difference.pairs} pairs of split and seed.\n"
            yield f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}"
            yield from (f"| {' | '.join(_cells(one, compared[0].difference.pairs))} |" for one in compared)
            yield ""


def _cells(one: Compared, pairs: int) -> Iterator[str]:
    clean = one.name == "clean"
    yield one.name + (f" ({one.difference.pairs} pairs)" if one.difference.pairs < pairs else "")
    yield f"{one.mean:.1f} ± {one.deviation:.1f}"
    yield "" if clean else f"{one.difference.mean:+.2f} ± {one.difference.deviation:.2f}"
    yield "" if clean else _p(one.difference.p)
    yield "" if clean else _p(one.corrected)
    yield f"{one.gap:.1f}"
    yield ", ".join(f"{'w' if name == 'strength' else name} {value}" for name, value in one.chosen.items())
    yield str(one.tried)


def _p(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0")


def _csv(of_problems: dict[Key, list[Arm]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("problem", "figure", "arm", "pairs", "recall_at_1", "deviation", "difference", "difference_deviation", "p",
         "p_holm", "gap", "tried", "chosen")
    )  # fmt: skip
    for key, arms in of_problems.items():
        for figure in (AT_END, EARLY_STOPPING):
            for one in against_clean(arms, figure):
                of = one.difference
                writer.writerow(
                    (title(key), figure[0], one.name, of.pairs, f"{one.mean:.3f}", f"{one.deviation:.3f}",
                     f"{of.mean:.3f}", f"{of.deviation:.3f}", f"{of.p:.3g}", f"{one.corrected:.3g}", f"{one.gap:.2f}",
                     one.tried, one.chosen)
                )  # fmt: skip
    return text.getvalue()


def _plot(of_problems: dict[Key, list[Arm]], path: Path) -> None:
    """Recall@1 at the last step against w, a line for each arm that has several, at its best learning rate by
    validation; the paper's Figure 3."""
    panels = []
    for key, arms in of_problems.items():
        lines = [(arm.name, points) for arm in arms if len(points := _by_strength(arm)) > 1]
        if lines:
            panels.append((key, against_clean(arms, AT_END)[0].mean, lines))
    if not panels:
        return
    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(15, 3.8 * rows), layout="constrained")
    for axis, (key, clean, lines) in zip(figure.subplots(rows, 3, squeeze=False).flat, panels, strict=False):
        axis.axhline(clean, color="black", lw=1, ls=":", label="clean")
        for name, points in lines:
            axis.plot(*zip(*points, strict=True), marker="o", ms=3, label=name)
        axis.set(title=title(key), xlabel="w", ylabel="Recall@1", xscale="log")
        axis.title.set_fontsize(8)
        axis.legend(fontsize=6)
    with replacing(path) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})


def _by_strength(arm: Arm) -> list[tuple[float, float]]:
    best: dict[float, tuple[float, float]] = {}
    for runs in arm.settings.values():
        values = list(runs.values())
        w = values[0]["strength"]
        if not isinstance(w, int | float):
            continue
        validation, test = (sum(row[name] for row in values) / len(values) for name in ("validation", "test"))
        best[w] = max(best.get(w, (float("-inf"), 0.0)), (validation, test))
    return sorted((w, test) for w, (_, test) in best.items())
