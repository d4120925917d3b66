"""Curves over the epochs of a run, from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from .lines import Line, series


def plot_losses(axis: Axes, epochs: Sequence[Line]) -> None:
    """The loss that is minimised and, with mixup, its clean and its mixed part."""
    for part in ("loss", "clean", "mixed"):
        plot(axis, series(epochs, part), part)
    finish(axis, "training loss", "mean over batches")


def plot_learning_rate(axis: Axes, epochs: Sequence[Line]) -> None:
    plot(axis, series(epochs, "lr"), "learning rate")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the default one writes formulas, drawn as text here
    axis.yaxis.set_minor_formatter(lambda value, _: "")
    finish(axis, "learning rate", "")


def plot_recall(axis: Axes, epochs: Sequence[Line], baseline: float | None = None) -> None:
    """Recall@K of every K, in per cent. Of an epoch 0, where there is one: that of the untrained network."""
    for k in dict.fromkeys(k for line in epochs for k in line.get("recall_at", {})):
        numbers, values = series(epochs, f"recall_at.{k}")
        plot(axis, (numbers, [100 * value for value in values]), f"Recall@{k}")
    if baseline is not None:
        axis.axhline(100 * baseline, color="grey", linestyle="--", label="Recall@1 of raw pixels")
    finish(axis, "unseen classes", "%")
    axis.set_ylim(0, 100)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot(axis: Axes, points: tuple[list[int], list[float]], label: str) -> None:
    if points[0]:
        axis.plot(*points, marker=".", label=label)


def finish(axis: Axes, title: str, ylabel: str) -> None:
    axis.set(xlabel="epoch", ylabel=ylabel, title=title)
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(axis.lines) > 1:
        axis.legend()
