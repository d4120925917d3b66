"""The pictures of a run: queries with what they find, and the curves over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from ..errors import printable
from ..files import replacing
from .curves import plot_losses, plot_recall
from .grid import Query

# Names of files, classes and options are text, whatever stands in them: "$" begins no formula.
plt.rcParams.update({"text.parse_math": False, "text.usetex": False})

# Told apart with any colour vision; the symbol says it once more.
RIGHT, WRONG = ("#0072B2", "✓"), ("#D55E00", "✗")


def draw_retrieval(path: Path, rows: Sequence[Query], title: str) -> None:
    """A row per query: the query, then its nearest neighbours, marked right or wrong."""
    columns = max(len(row.neighbours) for row in rows)
    figure, axes = plt.subplots(len(rows), 1 + columns, figsize=(1.0 + columns, len(rows) + 0.7), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for row_axes, row in zip(axes, rows, strict=True):
        row_axes[0].imshow(row.image)
        for axis, found in zip(row_axes[1:], row.neighbours, strict=True):
            axis.imshow(found.image)
            colour, symbol = RIGHT if found.right else WRONG
            for spine in axis.spines.values():
                spine.set(color=colour, linewidth=2)
            axis.text(0.03, 0.97, symbol, color=colour, size=13, va="top", transform=axis.transAxes)
    axes[0, 0].set_title("query", size=10)
    for rank, axis in enumerate(axes[0, 1:], start=1):
        axis.set_title(str(rank), size=10)
    figure.suptitle(drawable(title), size=11)
    save(figure, path)


def draw_curves(path: Path, epochs: list[dict[str, Any]], start: dict[str, float], baseline: float | None) -> None:
    """Loss, and Recall@K from before the first epoch on."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.4))
    plot_losses(left, epochs)
    plot_recall(right, [{"epoch": 0, "recall_at": start}, *epochs], baseline)
    save(figure, path)


def drawable(text: str) -> str:
    """A typeface has no drawing of control characters, nor of the bytes of a name that is in no known encoding."""
    return printable(text.encode("utf-8", "replace").decode())


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
