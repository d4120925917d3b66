"""The pictures of a run: queries with what they find, and the curves over the epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from torch import Tensor

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from metrix_ext.retrieval import nearest

from ..data.images import ImageSet
from ..errors import printable
from ..files import replacing

# Names of files, classes and options are text, whatever stands in them: "$" begins no formula.
plt.rcParams.update({"text.parse_math": False, "text.usetex": False})

# Told apart with any colour vision; the symbol says it once more.
RIGHT, WRONG = ("#0072B2", "✓"), ("#D55E00", "✗")


def draw_retrieval(
    path: Path,
    images: ImageSet,
    embeddings: Tensor,
    title: str,
    seed: int,
    queries: int = 10,
    neighbours: int = 8,
    gallery: tuple[ImageSet, Tensor] | None = None,
) -> None:
    """A row per query, drawn at random: the query, then its nearest neighbours, marked right or wrong.

    gallery: images that are searched, and their embeddings; None: the others of `images`.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(images), min(queries, len(images)), replace=False)
    searched, of_searched = gallery or (images, embeddings)
    own = gallery is None
    neighbours = min(neighbours, len(searched) - own)
    ranked = nearest(embeddings[chosen], neighbours + own, gallery=of_searched).tolist()
    figure, axes = plt.subplots(
        len(chosen), 1 + neighbours, figsize=(1.0 + neighbours, len(chosen) + 0.7), squeeze=False
    )
    for row, query, candidates in zip(axes, chosen, ranked, strict=True):
        found = [i for i in candidates if not own or i != query][:neighbours]
        pictures = images.picture(query), *(searched.picture(i) for i in found)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
        for axis, i in zip(row[1:], found, strict=True):
            is_right = searched.names[searched.labels[i]] == images.names[images.labels[query]]
            colour, symbol = RIGHT if is_right else WRONG
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
    numbers = [epoch["epoch"] for epoch in epochs]
    for part in ("loss", "clean", "mixed"):
        if epochs and part in epochs[0]:
            left.plot(numbers, [epoch[part] for epoch in epochs], marker=".", label=part)
    left.set(xlabel="epoch", ylabel="mean over batches", title="training loss")
    if epochs:
        left.legend()
    measured = [epoch for epoch in epochs if "recall_at" in epoch]
    for k in start:
        values = [start[k]] + [epoch["recall_at"][k] for epoch in measured]
        at = [0, *(epoch["epoch"] for epoch in measured)]
        right.plot(at, [100 * value for value in values], marker=".", label=f"Recall@{k}")
    if baseline is not None:
        right.axhline(100 * baseline, color="grey", linestyle="--", label="Recall@1 of raw pixels")
    right.set(xlabel="epoch", ylabel="%", ylim=(0, 100), title="unseen classes")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    save(figure, path)


def drawable(text: str) -> str:
    """A typeface has no drawing of control characters, nor of the bytes of a name that is in no known encoding."""
    return printable(text.encode("utf-8", "replace").decode())


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
