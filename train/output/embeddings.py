"""Embeddings with the paths of their images, as .npz or .parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, printable
from ..files import replacing

SUFFIXES = (".npz", ".parquet")


def require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path} is of no known format: give a name that ends in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        arrow()


def write(path: Path, paths: Sequence[str], embeddings: np.ndarray) -> None:
    """.npz: arrays `paths` [n] of text and `embeddings` [n, d]. .parquet: columns `path`, `embedding` (a list of d)."""
    columns = None if path.suffix == ".npz" else table(paths, embeddings)
    with replacing(path) as file:
        if columns is None:
            np.savez(file, paths=np.array(paths, str), embeddings=embeddings)
        else:
            from pyarrow import parquet

            parquet.write_table(columns, file)


def table(paths: Sequence[str], embeddings: np.ndarray) -> Any:
    pyarrow = arrow()
    try:
        names = pyarrow.array(paths, pyarrow.string())
    except UnicodeEncodeError as error:
        name = printable(ascii(error.object))
        raise UserError(f"the name {name} is no UTF-8, which .parquet asks for: give --out a name in .npz") from None
    rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), embeddings.shape[1])
    return pyarrow.table({"path": names, "embedding": rows})


def arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UserError(".parquet needs pyarrow: pip install 'metrix_ext[parquet]', or write .npz") from None
    return pyarrow
