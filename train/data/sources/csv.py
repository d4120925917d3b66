"""Images by a table of path,label[,split], as CSV or Parquet."""

from __future__ import annotations

from ...errors import UserError
from ...files import reading
from ..images import Collection
from . import tables
from .listed import Row, collect
from .paths import existing


def load(path: str | None, _image_size: int) -> Collection:
    """Paths are relative to the table's folder; split is train, val, test, or query and gallery.

    The classes are in the order of their labels, as numbers if all of them are, else as text.
    """
    file = existing(path)
    if file.suffix.lower() not in tables.SUFFIXES:
        raise UserError(f"{path} is no table: give a {' or '.join(tables.SUFFIXES)} file of path,label[,split]")
    rows = tables.read(file, ("path", "label"), ("split",))
    with reading(file, "a table of images"):
        return collect([Row(file.parent / str(image), str(label), part) for image, label, part in rows])
