"""Images and labels as the arrays x and y of an .npz file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from ...files import reading, require_file


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Raises UserError with one line for a file that is damaged or lacks one of them."""
    with reading(path, "an .npz file"):
        require_file(path)
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as stored:
            if not {"x", "y"} <= set(stored):
                raise ValueError("it lacks the array x or y: expected x uint8 [n, h, w, 3] or [n, h, w] and y int [n]")
            x, y = stored["x"], stored["y"]
        if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):  # numpy returns other members as bytes
            raise ValueError("x or y is no array")
        return x, y


def refuse_bomb(path: Path) -> None:
    """A file of some MB may unpack to more than the machine holds, which then ends some process or other."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if hasattr(os, "sysconf") and size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise MemoryError(f"its arrays take {size / 2**30:,.0f} GiB, more than this machine has")
