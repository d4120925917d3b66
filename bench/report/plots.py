"""Time and memory against n, log over log."""

from __future__ import annotations

from pathlib import Path

from .results import Result
from .rows import OK

TIME, MEMORY = "time.png", "memory.png"


def scaling_plots(folder: Path, result: Result) -> list[Path]:
    """Writes TIME and MEMORY.

    Raises:
        ImportError: there is no matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written = []
    for name, ylabel, value in ((TIME, "ms, forward and backward", "time"), (MEMORY, "MiB extra", "memory_mib")):
        sets = list(dict.fromkeys(row.pairs for row in result.rows))
        figure, axes = pyplot.subplots(1, len(sets), figsize=(4.2 * len(sets), 3.6), sharey=True, squeeze=False)
        for axis, pairs in zip(axes[0], sets, strict=True):
            for index, peer in enumerate(dict.fromkeys(row.peer for row in result.rows)):
                own = [r for r in result.rows if (r.pairs, r.peer, r.status) == (pairs, peer, OK)]
                points = [(row.n, getattr(row, value)) for row in own if (getattr(row, value) or 0) > 0]
                if points:
                    axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=f"C{index}", label=peer)
            axis.set(xscale="log", yscale="log", title=pairs, xlabel="n")
            axis.set_xscale("log", base=2)
            axis.grid(alpha=0.3)
        axes[0][0].set_ylabel(ylabel)
        figure.suptitle(str(result.environment["device"]), fontsize=10)
        figure.tight_layout(rect=(0, 0, 0.87, 1))
        handles = {
            label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="center right", fontsize=8)
        written.append(folder / name)
        figure.savefig(written[-1], dpi=110)
        pyplot.close(figure)
    return written
