"""The sections of a run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..options.paper import Row
from . import html
from .curves import plot_learning_rate, plot_losses, plot_recall
from .grid import Neighbour, Query
from .lines import Line, flat
from .similarities import Similarities

RIGHT, WRONG = "#1a7f37", "#cf222e"  # as in the style of the page
PANELS = {"loss": plot_losses, "lr": plot_learning_rate, "recall_at": plot_recall}  # by what a line has to have


def recall(epochs: Sequence[Line], paper_row: Row | None) -> str:
    """Recall@K before and after training, and the paper's."""
    rows = measured(epochs)
    if paper_row is not None:
        last = list(rows.values())[-1] if rows else {}
        printed = {str(k): value for k, value in paper_row.recall_at.items()}
        rows[paper_row.title] = printed
        rows["last epoch less that"] = {k: round(last[k] - printed[k], 1) for k in printed if k in last}
    ks = list(dict.fromkeys(k for row in rows.values() for k in row))
    head = ["", *(f"Recall@{k}" for k in ks)]
    body = [[title, *(row.get(k) for k in ks)] for title, row in rows.items()]
    explained = html.paragraph("Images of classes that training has not seen: how many find one of their class, in %.")
    return html.section("Recall", explained, html.table(head, body))


def measured(epochs: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Per cent by K of the untrained network, of the best epoch by validation classes and by these, and of the last."""
    lines = [line for line in epochs if line.get("recall_at")]
    rows, trained = {}, [line for line in lines if line["epoch"] > 0]
    if len(lines) > len(trained):
        rows["untrained"] = per_cent(lines[0]["recall_at"])
    if trained:
        last, best = trained[-1], best_by("recall_at", trained)
        if validated := [line for line in trained if line.get("validation_recall_at")]:
            chosen = best_by("validation_recall_at", validated)
            rows[f"epoch {chosen['epoch']}, the best on validation classes"] = per_cent(chosen["recall_at"])
        if best is not last:
            rows[f"epoch {best['epoch']}, the best, chosen by these very images"] = per_cent(best["recall_at"])
        rows[f"epoch {last['epoch']}, the last"] = per_cent(last["recall_at"])
    return rows


def best_by(name: str, lines: Sequence[Line]) -> Line:
    """By the first of the K; of equally good epochs the first."""
    return max(lines, key=lambda line: next(iter(line[name].values())))


def per_cent(recall_at: Mapping[str, float]) -> dict[str, float]:
    return {str(k): round(100 * value, 1) for k, value in recall_at.items()}


def curves(epochs: Sequence[Line]) -> str:
    panels = [plot for key, plot in PANELS.items() if any(key in line for line in epochs)]
    if not panels:
        return html.section("Curves", html.paragraph("No epoch has been finished."))
    figure = Figure(figsize=(4.2 * len(panels) + 1, 3.4), layout="constrained")
    for axis, plot in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        plot(axis, epochs)
    return html.section("Curves", html.drawing(figure, "Loss, learning rate and Recall@K by epoch"))


def retrieval(grid: Sequence[Query]) -> str:
    words = (
        "Queries drawn at random, and what they find, nearest first, with the cosine. "
        "Green ✓: of the query's class. Red, dashed ✗: of another."
    )
    rows = "\n".join(f'<div class="row">{query_figures(query)}</div>' for query in grid)
    return html.section("What queries find", html.paragraph(words), f'<div class="grid">\n{rows}\n</div>')


def query_figures(query: Query) -> str:
    first = figure("query", "", html.picture(query.image, f"query {query.name}"), query.name, "query")
    return first + "".join(map(neighbour_figure, query.neighbours))


def neighbour_figure(found: Neighbour) -> str:
    kind, symbol = ("right", "✓") if found.right else ("wrong", "✗")
    image = html.picture(found.image, f"{kind}: {found.name}")
    return figure(kind, f"<b>{symbol}</b>", image, found.name, f"{found.similarity:.2f}")


def figure(kind: str, mark: str, image: str, title: str, caption: str) -> str:
    """`title` is shown under the pointer."""
    return (
        f'<figure class="{kind}" title="{html.text(title)}"><div>{image}{mark}</div>'
        f"<figcaption>{html.text(caption)}</figcaption></figure>"
    )


def similarity(found: Similarities) -> str:
    """Histograms, each of area 1: there are far more negative pairs."""
    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel="cosine similarity", ylabel="density")
    edges, words = found.edges(), []
    middles = (edges[1:] + edges[:-1]) / 2
    for name, counts, colour in (("positive", found.positive, RIGHT), ("negative", found.negative, WRONG)):
        pairs = int(counts.sum())
        words.append(f"{pairs:,} {name} pairs")
        if pairs:
            mean = round(counts @ middles / pairs, 2) + 0.0  # no -0.00
            words[-1] += f", mean {mean:.2f}"
            first, last = np.flatnonzero(counts)[[0, -1]]
            density = counts[first : last + 1] / pairs / (edges[1] - edges[0])
            axis.stairs(density, edges[first : last + 2], fill=True, alpha=0.45, color=colour, label=name)
            axis.legend()
    drawn = html.drawing(figure, "Histograms of the cosine of positive and of negative pairs")
    return html.section("Similarity of pairs", html.paragraph("; ".join(words) + "."), drawn)


def every_epoch(epochs: Sequence[Line]) -> str:
    lines = [dict(flat(line)) for line in epochs]
    head = list(dict.fromkeys(key for line in lines for key in line))
    table = html.table(head, [[line.get(key) for key in head] for line in lines])
    return html.section("Every epoch", html.details(f"{len(lines)} lines", table))


def options(configuration: Mapping[str, Any]) -> str:
    rows = [[key, html.shown(value)] for key, value in flat(configuration)]
    return html.section("Configuration", html.table(["option", "value"], rows))
