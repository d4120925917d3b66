"""Images and labels as two arrays in an .npz file."""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from ..images import Collection
from . import arrays
from .paths import existing


def load(path: str | None, _image_size: int) -> Collection:
    """Arrays `x` uint8 [n, h, w, 3] or [n, h, w] and `y` int [n]."""
    x, y = arrays.read(existing(path))
    if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or 0 in x.shape:
        raise UserError(f"x in {path} is {x.dtype} {list(x.shape)}; expected uint8 [n, h, w, 3] or [n, h, w]")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise UserError(f"y in {path} is {y.dtype} {list(y.shape)}; expected integers [{len(x)}]")
    classes, labels = np.unique(y, return_inverse=True)
    return Collection(x, labels, [str(c) for c in classes])
