"""MATLAB's files of level 5, as far as lists of images use them: struct arrays and cells of names and numbers.

scipy.io.loadmat reads more, but a damaged file may end the process: its compiled reader follows the file's numbers out
of its memory (SciPy 1.17, a segmentation fault in read_var_array). Here every number meets the end of the data first.

The format is that of MathWorks' "MAT-File Format", chapter 1. A file is a header and elements: a type, a size and data.
An array is an element of elements: its class, its shape, its name, then its values, which are arrays themselves where
it is a struct array or a cell array.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...files import require_file

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by type
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
ARRAY, COMPRESSED = 14, 15
CELL, STRUCT, TEXT = 1, 2, 4  # classes of arrays
HEADER = 128  # bytes; the last ones are the version and the order of bytes
LARGEST = 2**28  # bytes that compressed data may become; the annotations of 8,000 images take 7 MB


class Element(NamedTuple):
    kind: int
    data: memoryview
    order: str  # of bytes: < or >


class Array(NamedTuple):
    kind: int
    shape: tuple[int, ...]
    name: str
    values: Iterator[Element]


def records(path: Path, name: str, fields: Sequence[str]) -> list[tuple[str | float, ...]]:
    """Of each entry of a struct array the values of some fields. Raises ValueError if it is damaged or lacks them."""
    found = variables(path).get(name)
    if found is None or found.kind != STRUCT:
        raise ValueError(f"it lacks the struct array {name}")
    width, names = first(following(found.values)), bytes(following(found.values).data)
    known = [names[at : at + width].partition(b"\0")[0].decode() for at in range(0, len(names), max(1, width))]
    if missing := [field for field in fields if field not in known]:
        raise ValueError(f"its struct array {name} lacks the field {missing[0]}")
    entries = list(found.values)
    if len(entries) != math.prod(found.shape) * len(known):
        raise ValueError(f"its struct array {name} is not whole")
    columns = [entries[known.index(field) :: len(known)] for field in fields]
    return [tuple(map(value, row)) for row in zip(*columns, strict=True)]


def cells(path: Path, name: str) -> list[str | float]:
    """The values of a cell array; none if the file has no variable of that name."""
    found = variables(path).get(name)
    if found is None:
        return []
    if found.kind != CELL:
        raise ValueError(f"its {name} is no cell array")
    return [value(entry) for entry in found.values]


def variables(path: Path) -> dict[str, Array]:
    require_file(path)
    content = path.read_bytes()
    version, order = content[124:126], {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or version not in (b"\0\1", b"\1\0"):
        raise ValueError("it is no MAT-file of level 5, which MATLAB saves with -v6 or -v7")
    found = [array(unpacked(element)) for element in elements(memoryview(content)[HEADER:], order)]
    return {variable.name: variable for variable in found}


def unpacked(element: Element) -> Element:
    if element.kind != COMPRESSED:
        return element
    stream = zlib.decompressobj()
    data = stream.decompress(element.data, LARGEST)
    if not stream.eof:
        raise ValueError("it has compressed data that end too early or never")
    return following(elements(memoryview(data), element.order))


def elements(data: memoryview, order: str) -> Iterator[Element]:
    """The elements that follow one another; small ones have their data in place of the size."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("it ends in the middle of an element")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        begin, small = at + 8, kind >> 16
        if small:
            kind, size, begin = kind & 0xFFFF, small, at + 4
        if begin + size > len(data) or small > 4:
            raise ValueError("it has an element that is longer than what is left")
        yield Element(kind, data[begin : begin + size], order)
        at = begin + size if kind == COMPRESSED else begin + size + -(begin + size - at) % 8


def array(element: Element) -> Array:
    if element.kind != ARRAY:
        raise ValueError("it has another element where an array was expected")
    parts = elements(element.data, element.order)
    flags, shape, name = following(parts), following(parts), following(parts)
    return Array(first(flags) & 0xFF, numbers(shape), bytes(name.data).decode(), parts)


def value(element: Element) -> str | float:
    """Of a row of characters, or of a single number."""
    found = array(element)
    if found.kind == TEXT:
        return text(following(found.values))
    single = numbers(following(found.values))
    if len(single) != 1:
        raise ValueError(f"it has {len(single)} numbers where one was expected")
    return single[0]


def text(element: Element) -> str:
    if element.kind not in TEXTS:
        raise ValueError("it has other data where text was expected")
    encoding = TEXTS[element.kind]
    ending = {"<": "-le", ">": "-be"}[element.order] if encoding == "utf-16" else ""
    return bytes(element.data).decode(encoding + ending)


def numbers(element: Element) -> tuple:
    if element.kind not in NUMBERS:
        raise ValueError("it has other data where numbers were expected")
    return tuple(np.frombuffer(element.data, element.order + NUMBERS[element.kind]).tolist())


def first(element: Element) -> int:
    if not (found := numbers(element)):
        raise ValueError("it has no number where one was expected")
    return int(found[0])


def following(parts: Iterator[Element]) -> Element:
    element = next(parts, None)
    if element is None:
        raise ValueError("it has an array that is not whole")
    return element
