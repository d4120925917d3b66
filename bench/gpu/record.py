"""What became of the parts of a run, on disk after each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

Outcome = dict[str, object]


class Record:
    """gpu.json: what became of every part that is not a row of the benchmark."""

    def __init__(self, folder: Path, found: dict[str, object]) -> None:
        self.folder = folder
        self.environment = found
        self.parts: dict[str, dict[str, Outcome]] = {}

    @property
    def passed(self) -> bool:
        """Whether nothing that ran has failed."""
        outcomes = [str(outcome["status"]) for part in self.parts.values() for outcome in part.values()]
        return all(status == "passed" or status.startswith("not run") for status in outcomes)

    def add_all(self, part: str, outcomes: Iterator[tuple[str, Outcome]]) -> None:
        """Adds as they come; what breaks off is recorded too."""
        try:
            for name, outcome in outcomes:
                self.add(part, name, outcome)
        except Exception as error:
            self.add(part, "broken off", {"status": f"{type(error).__name__}: {error}"})

    def add(self, part: str, name: str, outcome: Outcome) -> None:
        self.parts.setdefault(part, {})[name] = outcome
        print(f"{part}, {name}: {outcome['status']} {outcome.get('summary', '')}", flush=True)
        self.write()

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"environment": self.environment, "parts": self.parts}
        (self.folder / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
