"""Curves over the epochs of a run, from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from .lines import Line, series


def plot_losses(axis: Axes, epochs: Sequence[Line]) -> None:
    """The loss that is minimised and, with mixup, its clean and its mixed part."""
    for part in ("loss", "clean", "mixed"):
        plot(axis, series(epochs, part), part)
    finish(axis, "training loss", "mean over batches")


def plot_learning_rate(axis: Axes, epochs: Sequence[Line]) -> None:
    plot(axis, series(epochs, "lr"), "learning rate")
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # steps of a half or a quarter stay within a decade
    for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")  # the default one writes formulas, drawn as text here
    finish(axis, "learning rate", "")


def plot_recall(axis: Axes, epochs: Sequence[Line], baseline: float | None = None) -> None:
    """Recall@K of every K, in per cent, dashed on validation classes. That of an epoch 0 is the untrained network's."""
    for key, words, style in (("recall_at", "Recall", "-"), ("validation_recall_at", "validation Recall", "--")):
        for k in dict.fromkeys(k for line in epochs for k in line.get(key, {})):
            numbers, values = series(epochs, f"{key}.{k}")
            plot(axis, (numbers, [100 * value for value in values]), f"{words}@{k}", style)
    if baseline is not None:
        axis.axhline(100 * baseline, color="grey", linestyle="--", label="Recall@1 of raw pixels")
    finish(axis, "unseen classes", "%")
    axis.set_ylim(0, 100)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot(axis: Axes, points: tuple[list[int], list[float]], label: str, style: str = "-") -> None:
    if points[0]:
        axis.plot(*points, style, marker=".", label=label)


def finish(axis: Axes, title: str, ylabel: str) -> None:
    axis.set(xlabel="epoch", ylabel=ylabel, title=title)
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(axis.lines) > 1:
        axis.legend()
