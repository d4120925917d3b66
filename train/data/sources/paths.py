"""What the sources that read from --data share."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import UserError


def existing(path: str | None) -> Path:
    if path is None:
        raise UserError("--data is missing: this --dataset needs the path of its data")
    try:
        os.stat(path)
    except FileNotFoundError:
        raise UserError(f"--data {path} does not exist") from None
    except OSError as error:
        raise UserError(f"--data {path} cannot be read ({error.strerror})") from None
    return Path(path)
