"""What the paper reports for the options of a run: the figures of its Tables 2, 3, 4, 6 and 7 for its own methods."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from . import presets

KS = {"cub200": (1, 2, 4), "cars196": (1, 2, 4), "sop": (1, 10, 100), "inshop": (1, 10, 20)}
# Tables 2 and 6, and of Table 3 what is not in them: three figures for each data set of KS.
COMPARISONS = """
lifted                     65.9 75.8 84.5  81.4 88.3 92.4  76.1 88.6 95.2  88.6 97.6 98.4
proxynca                   65.2 75.6 83.8  81.2 87.9 92.6  73.2 87.0 94.4  86.2 95.9 97.0
proxynca++                 69.0 79.8 87.3  86.5 92.5 95.7  80.7 92.0 96.7  90.4 98.1 98.8
contrastive                64.7 75.9 84.6  81.6 88.2 92.7  74.9 87.0 93.9  86.4 94.7 96.2
contrastive+metrix-input   66.3 77.1 85.2  82.9 89.3 93.7  75.8 87.8 94.6  87.7 95.9 96.5
contrastive+metrix         67.4 77.9 85.7  85.1 91.1 94.6  77.5 89.1 95.5  89.1 95.7 97.1
contrastive+metrix-embed   66.4 77.6 85.4  83.9 90.3 94.1  76.7 88.6 95.2  88.4 95.4 96.8
ms                         67.8 77.8 85.6  87.8 92.7 95.3  76.9 89.8 95.9  90.1 97.6 98.4
ms+metrix-input            69.0 79.1 86.0  89.0 93.4 96.0  77.9 90.6 95.9  91.8 98.0 98.9
ms+metrix                  71.4 80.6 86.8  89.6 94.2 96.0  81.0 92.0 97.2  92.2 98.5 98.6
ms+metrix-embed            70.2 80.4 86.7  88.8 92.9 95.6  78.5 91.3 96.7  91.9 98.3 98.7
pa                         69.5 79.3 87.0  87.6 92.3 95.5  79.1 90.8 96.2  90.0 97.4 98.2
pa+metrix-input            70.5 81.2 87.8  88.2 93.2 96.2  79.8 91.4 96.5  90.9 98.1 98.4
pa+metrix                  71.0 81.8 88.2  89.1 93.6 96.7  81.3 91.7 96.9  91.9 98.2 98.8
pa+metrix-embed            70.4 81.1 87.9  88.9 93.3 96.4  80.6 91.7 96.6  91.6 98.3 98.3
"""
# Tables 4 (Cars196, d = 512) and 7 (CUB200, d = 128), R@1, 2, 4 and 8. Three lines of Table 4 differ from what Table 6
# or its own other lines say of the same options; they stand as printed.
ABLATIONS = """
baseline             81.6 88.2 92.7 95.8  61.6 73.7 83.6 90.1
input-k1             82.0 89.1 93.1 96.1  62.4 73.9 83.0 89.7
input-k2             82.5 89.2 93.4 96.2  62.7 74.2 83.6 90.0
input-k3             82.9 89.3 93.7 95.5  63.1 74.5 83.5 90.3
feature-k20          83.5 90.1 94.0 96.5  63.9 75.0 83.9 89.9
feature-k40          84.0 90.4 94.2 96.8  63.5 75.2 83.5 89.8
feature-kall         85.1 91.1 94.6 97.0  64.5 75.4 84.3 90.6
embed-k20            82.7 89.2 93.4 96.1  63.1 74.3 83.1 90.0
embed-k40            83.0 90.0 93.8 96.4  63.5 74.7 83.6 90.1
embed-kall           83.4 89.9 94.1 96.4  64.0 75.1 84.8 90.9
input-pos-pos        81.0 88.2 92.6 95.6  58.7 70.7 80.1 87.1
input-pos-neg        82.4 89.1 93.3 95.6  62.9 75.1 83.4 90.6
input-anc-neg        81.8 89.0 93.6 95.4  62.8 74.7 83.6 90.1
feature-pos-pos      81.1 88.3 92.9 95.8  61.0 73.1 82.5 89.7
feature-pos-neg      84.0 90.2 94.2 96.6  63.9 75.0 83.9 89.9
feature-anc-neg      83.7 90.1 94.4 96.7  63.8 74.8 83.6 90.2
embed-pos-pos        78.3 85.7 90.8 94.4  59.7 72.2 82.7 89.5
embed-pos-neg        83.1 90.0 93.9 96.6  63.8 75.1 83.3 90.5
embed-anc-neg        82.7 89.5 93.5 96.3  63.5 75.0 83.9 90.5
input+feature        83.7 94.2 95.9 96.7  63.9 75.1 84.9 90.5
input+embed          83.0 90.9 94.1 96.4  63.4 74.9 84.5 90.1
feature+embed        84.7 90.6 94.4 96.9  64.2 75.2 84.1 90.7
input+feature+embed  85.3 94.9 96.2 97.1  65.3 76.2 84.4 91.2
"""
# What makes a method, among the options of a run; all else is recipe, of which the network has to be the paper's.
METHOD = (
    "dataset", "loss", "loss_option", "miner", "memory_size", "mix", "pairs", "strength", "lam", "alpha",
    "hard_negatives", "renormalize", "mixed_loss", "mixed_margins",
)  # fmt: skip


class Row(NamedTuple):
    """title: which row of which table. recall_at: per cent by K, as printed."""

    title: str
    recall_at: dict[str, float]


def row_of(config: Mapping[str, Any], parse: Callable[[list[str]], argparse.Namespace]) -> Row | None:
    """The first row of the paper that trains as a run with these options does.

    parse: from a command line to its options.
    """
    if config["arch"] != "resnet50" or config["dataset"] not in KS:
        return None
    for name, recall_at in _figures().items():
        table, dataset, method = name.split("/")
        if dataset == config["dataset"]:
            row = vars(parse(presets.options(name)))
            same = all(_plain(row[option]) == _plain(config.get(option)) for option in METHOD)
            if same and config["embedding_size"] == (row["embedding_size"] or 512):
                return Row(f"the paper, Table {table.removeprefix('table')}, {method}", recall_at)
    return None


@cache
def _figures() -> dict[str, dict[str, float]]:
    """By the name of the preset, in the order of the tables."""
    found = {}
    for table in ("table2", "table6", "table3"):
        for method, printed in _lines(COMPARISONS):
            for dataset, figures in zip(KS, _parts(printed, 3), strict=True):
                found[f"{table}/{dataset}/{method}"] = dict(zip(map(str, KS[dataset]), figures, strict=True))
    for line, printed in _lines(ABLATIONS):
        for place, figures in zip(("table4/cars196", "table7/cub200"), _parts(printed, 4), strict=True):
            found[f"{place}/{line}"] = dict(zip(("1", "2", "4", "8"), figures, strict=True))
    return {name: figures for name, figures in found.items() if name in presets.names()}


def _lines(table: str) -> list[tuple[str, list[float]]]:
    return [(name, list(map(float, printed))) for name, *printed in map(str.split, table.strip().splitlines())]


def _parts(numbers: list[float], size: int) -> list[list[float]]:
    return [numbers[begin : begin + size] for begin in range(0, len(numbers), size)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
