"""Runs as they stand in results.jsonl, with figures that are given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from train.studies.setting import Setting

CLEAN = Setting(data="some/toys.npz")


def row(setting: Setting, test: float, validation: float = 50.0) -> dict[str, Any]:
    figures = {"test": test, "validation": validation, "test_at_best": test, "best_validation": validation, "gap": 9.0}
    return {**setting.plain(), "key": setting.key, **figures}


def arm(values: list[float], validation: float = 50.0, **changed: Any) -> list[dict[str, Any]]:
    """A run for each seed."""
    return [row(replace(CLEAN, seed=seed, **changed), value, validation) for seed, value in enumerate(values)]
