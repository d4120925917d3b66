"""From the runs of a study to its arms, each with the setting that validation classes choose, against the clean arm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .results import Row
from .setting import Setting
from .statistics import Difference, holm, paired

REPLICATE = ("split", "seed")
TUNED = ("lr", "strength", "gradient_share", "weight_decay", "dropout")
PROBLEM = (
    "data", "image_size", "trained", "classes", "steps", "batch_size", "images_per_class", "embedding_size", "loss",
    "loss_options",
)  # fmt: skip
DEFAULT = Setting()
# The figure that is compared, and the one that chooses among the settings of an arm.
AT_END = "test", "validation"
EARLY_STOPPING = "test_at_best", "best_validation"

Key = tuple[Any, ...]


@dataclass
class Arm:
    """A method on a problem: all its runs, by setting and by (split, seed)."""

    name: str
    settings: dict[Key, dict[Key, Row]]

    def chosen(self, by: str, replicates: set[Key]) -> Key:
        """The setting with the best mean of a figure, of those that have all the replicates, or else the most."""
        most = max(len(replicates & runs.keys()) for runs in self.settings.values())
        full = [key for key, runs in self.settings.items() if len(replicates & runs.keys()) == most]

        def mean(key: Key) -> float:
            runs = self.settings[key]
            return float(np.mean([runs[replicate][by] for replicate in replicates & runs.keys()]))

        return max(full, key=mean)


@dataclass
class Compared:
    """An arm beside the clean one of its problem."""

    name: str
    tried: int  # settings
    chosen: dict[str, Any]
    mean: float
    deviation: float
    difference: Difference
    corrected: float  # p, by Holm, over the arms of the problem
    gap: float


def problems(rows: Sequence[Row]) -> dict[Key, list[Arm]]:
    """The arms of every problem, the clean one first."""
    found: dict[Key, dict[str, Arm]] = defaultdict(dict)
    for row in rows:
        if "error" in row:
            continue
        problem = tuple(_hashable(_base(name, row[name])) for name in PROBLEM)
        arm = found[problem].setdefault(name_of(row), Arm(name_of(row), defaultdict(dict)))
        tuned = tuple(_hashable(row[name]) for name in TUNED)
        arm.settings[tuned][tuple(row[name] for name in REPLICATE)] = row
    return {
        key: sorted(arms.values(), key=lambda arm: arm.name != "clean") for key, arms in sorted(found.items(), key=str)
    }


def against_clean(arms: Sequence[Arm], figure: tuple[str, str]) -> list[Compared]:
    """figure: the one that is compared, and the one that chooses. Replicates are those of the chosen clean setting."""
    compared, by = figure
    clean = arms[0]
    everything = {replicate for runs in clean.settings.values() for replicate in runs}
    of_clean = clean.settings[clean.chosen(by, everything)]
    found = []
    for arm in arms:
        key = arm.chosen(by, set(of_clean))
        runs = arm.settings[key]
        shared = sorted(runs.keys() & of_clean.keys())
        values = [runs[replicate][compared] for replicate in shared]
        difference = paired(values, [of_clean[replicate][compared] for replicate in shared])
        chosen = {name: value for name, value in zip(TUNED, key, strict=True) if value != getattr(DEFAULT, name)}
        found.append(
            Compared(
                arm.name, len(arm.settings), {"lr": key[0], **chosen}, float(np.mean(values)),
                float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, difference, 1.0,
                float(np.mean([runs[replicate]["gap"] for replicate in shared])),
            )
        )  # fmt: skip
    for one, p in zip(found[1:], holm([one.difference.p for one in found[1:]]), strict=True):
        one.corrected = p
    return found


def name_of(row: Row) -> str:
    """What an arm does besides the clean loss; the values that are tuned are no part of it."""
    words = []
    for name in (field.name for field in fields(Setting)):
        value, usual = row[name], getattr(DEFAULT, name)
        if name in PROBLEM + REPLICATE or name == "lr" or _hashable(value) == _hashable(usual):
            continue
        if name in ("weight_decay", "dropout"):
            words.append(name.replace("_", " "))
        elif name == "strength":
            words += ["balanced"] if value == "balanced" else []
        elif name != "gradient_share":
            words.append(_word(name, value))
    return ", ".join(words) or "clean"


def _word(name: str, value: Any) -> str:
    if name in ("mix", "control"):
        return str(value)
    if name == "mixed_loss_options":
        return "(" + ", ".join(f"{option} {number:g}" for option, number in value.items()) + ")"
    if isinstance(value, list | tuple):
        value = " to ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return f"{name.replace('_', ' ')} {value}"


def _base(name: str, value: Any) -> Any:
    return value.rpartition("/")[2] if name == "data" else value


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
