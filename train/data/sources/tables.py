"""Tables of text with named columns: CSV, or Parquet if pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import reading, require_file

SUFFIXES = (".csv", ".parquet")


def read(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[str | None, ...]]:
    """The needed and the optional columns, row by row; None stands for an optional column that is not there.

    Raises UserError with one line for a table that is damaged, lacks a column, or has an empty cell in one.
    """
    with reading(path, f"a table of {', '.join(needed)}"):
        require_file(path)
        parquet = path.suffix.lower() == ".parquet"
        header, rows = from_parquet(path, (*needed, *optional)) if parquet else from_csv(path)
        if missing := [name for name in needed if name not in header]:
            raise ValueError(f"it has no column {missing[0]}; its columns are {', '.join(header)}")
        places = [header.index(name) if name in header else None for name in (*needed, *optional)]
        return [tuple(cell(row, place, header, number) for place in places) for number, row in rows]


def cell(row: Sequence[Any], place: int | None, header: Sequence[str], number: int) -> str | None:
    if place is None:
        return None
    if row[place] is None or row[place] == "":
        raise ValueError(f"row {number} has no {header[place]}")
    return str(row[place])


def from_csv(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Header, and the rows with their numbers, blank lines left out."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        table = [[text.strip() for text in row] for row in csv.reader(file, strict=True)]
    header, *rows = table or [[]]
    return header, checked(rows, len(header))


def checked(rows: Iterable[list[str]], columns: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(rows, 2):
        if row and len(row) != columns:
            raise ValueError(f"row {number} has {len(row)} columns, the header {columns}")
        if row:
            yield number, row


def from_parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], Iterator[tuple[int, list[Any]]]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow: pip install 'metrix_ext[parquet]', or save it as .csv") from None
    with parquet.ParquetFile(path) as file:
        header = [name for name in file.schema_arrow.names if name in wanted]
        table = file.read(columns=header)
    columns = [table.column(name).to_pylist() for name in header]
    return header, enumerate(map(list, zip(*columns, strict=True)), 1)
