"""What the sources that read from --data share."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError


def existing(path: str | None) -> Path:
    if path is None:
        raise UserError("--data is missing: this --dataset needs the path of its data")
    if not Path(path).exists():
        raise UserError(f"--data {path} does not exist")
    return Path(path)
