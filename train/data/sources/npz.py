"""Images and labels as two arrays in an .npz file."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from ...errors import UserError, one_line
from ..images import Collection
from .paths import existing


def load(path: str | None, _image_size: int) -> Collection:
    """Arrays `x` uint8 [n, h, w, 3] or [n, h, w] and `y` int [n]."""
    x, y = read(path)
    if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or 0 in x.shape:
        raise UserError(f"x in {path} is {x.dtype} {list(x.shape)}; expected uint8 [n, h, w, 3] or [n, h, w]")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != x.shape[:1]:
        raise UserError(f"y in {path} is {y.dtype} {list(y.shape)}; expected integers [{len(x)}]")
    classes, labels = np.unique(y, return_inverse=True)
    return Collection(x, labels, [str(c) for c in classes])


def read(path: str | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(existing(path)) as stored:
            return stored["x"], stored["y"]
    except KeyError:
        raise UserError(
            f"{path} lacks the array x or y; expected x uint8 [n, h, w, 3] or [n, h, w] and y int [n]"
        ) from None
    except (OSError, ValueError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as an .npz file ({one_line(error)})") from None
