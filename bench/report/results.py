"""Results on disk: a JSON file and a CSV file per case, a folder per device."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .rows import COLUMNS, Row

FOLDER = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Result:
    """One case on one device."""

    case: str
    environment: Mapping[str, object]
    limits: Mapping[str, float]
    rows: Sequence[Row]


def write(folder: Path, result: Result) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{name: _rounded(value) for name, value in row.to_dict().items()} for row in result.rows]
    content = {
        "case": result.case,
        "environment": result.environment,
        "limits_per_second": {name: _rounded(value) for name, value in result.limits.items()},
        "rows": [{name: value for name, value in row.items() if value not in (None, "")} for row in rows],
    }
    (folder / f"{result.case}.json").write_text(json.dumps(content, indent=1) + "\n")
    with (folder / f"{result.case}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(folder: Path) -> dict[str, Result]:
    """All cases of a folder, by name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if "rows" in content:
            rows = [Row(**row) for row in content["rows"]]
            case = content["case"]
            found[case] = Result(case, content["environment"], content["limits_per_second"], rows)
    return found


def _rounded(value: object) -> object:
    """Four digits: more than repeats from run to run. What is no number in JSON is none here."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None
