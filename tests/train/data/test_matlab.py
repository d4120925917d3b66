"""MATLAB's files: the same values as SciPy reads from them, in either order of bytes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

pytest.importorskip("matplotlib")

from train.data.sources import matlab

NAMES = ["car_ims/000001.jpg", "ü/日本.jpg", "a", ""]
NUMBERS = [np.uint8(7), np.uint16(40_000), np.int32(-5), 2.5]


def struct_array(names, numbers):
    array = np.empty((1, len(names)), [("other", object), ("name", object), ("number", object)])
    for i, (name, number) in enumerate(zip(names, numbers, strict=True)):
        array[0, i] = (np.zeros((2, 3)), name, number)
    return array


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_reads(tmp_path, compressed):
    cell = np.array([*NAMES[:3], 3], object)[None]
    stored = {"before": np.eye(3), "annotations": struct_array(NAMES, NUMBERS), "class_names": cell}
    savemat(tmp_path / "x.mat", stored, do_compression=compressed)
    found = loadmat(tmp_path / "x.mat", squeeze_me=True)
    records = matlab.records(tmp_path / "x.mat", "annotations", ("name", "number"))
    # SciPy has no empty names: it reads the last one as an empty array.
    assert records[:3] == [(record["name"], record["number"]) for record in found["annotations"][:3]]
    assert records == list(zip(NAMES, [7, 40_000, -5, 2.5], strict=True))
    assert matlab.records(tmp_path / "x.mat", "annotations", ("number",)) == [(number,) for _, number in records]
    assert matlab.cells(tmp_path / "x.mat", "class_names") == [*NAMES[:3], 3]
    assert matlab.cells(tmp_path / "x.mat", "nothing") == []


def element(order, kind, data):
    if 0 < len(data) <= 4 and kind != matlab.ARRAY:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def array(order, kind, shape, name, *values):
    flags = element(order, 6, struct.pack(f"{order}II", kind, 0))
    dimensions = element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
    return element(order, matlab.ARRAY, b"".join([flags, dimensions, element(order, 1, name), *values]))


def written(order, text_kind, encoding, compressed):
    """Two records of name and number as MATLAB writes them on a machine of that order of bytes."""
    values = []
    for name, number in (("00001.jpg", 14), ("Škoda.jpg", 300)):
        text = element(order, text_kind, name.encode(encoding))
        values.append(array(order, matlab.TEXT, (1, len(name)), b"", text))
        values.append(array(order, 6, (1, 1), b"", element(order, 4, struct.pack(f"{order}H", number))))
    width, fields = element(order, 5, struct.pack(f"{order}i", 8)), element(order, 1, b"fname\0\0\0class\0\0\0")
    content = array(order, matlab.STRUCT, (1, 2), b"annotations", width, fields, *values)
    if compressed:
        packed = zlib.compress(content)
        content = struct.pack(f"{order}II", matlab.COMPRESSED, len(packed)) + packed
    mark = {"<": b"\0\1IM", ">": b"\1\0MI"}[order]
    return b"MATLAB 5.0 MAT-file".ljust(124) + mark + content


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("text", ["utf-8", "utf-16", "uint16"])
def test_both_orders_of_bytes(tmp_path, order, compressed, text):
    kind = {"utf-8": 16, "utf-16": 17, "uint16": 4}[text]
    encoding = "utf-8" if text == "utf-8" else {"<": "utf-16-le", ">": "utf-16-be"}[order]
    (tmp_path / "x.mat").write_bytes(written(order, kind, encoding, compressed))
    found = matlab.records(tmp_path / "x.mat", "annotations", ("class", "fname"))
    assert found == [(14, "00001.jpg"), (300, "Škoda.jpg")]
    if text != "uint16":  # of which SciPy keeps the lower byte
        by_scipy = loadmat(tmp_path / "x.mat", squeeze_me=True)["annotations"]
        assert [(record["class"], record["fname"]) for record in by_scipy] == found


def test_data_that_would_unpack_to_more_than_is_allowed(tmp_path, monkeypatch):
    savemat(tmp_path / "x.mat", {"annotations": struct_array(NAMES * 50, NUMBERS * 50)}, do_compression=True)
    monkeypatch.setattr(matlab, "LARGEST", 10_000)
    with pytest.raises(ValueError, match="compressed data that end too early or never"):
        matlab.records(tmp_path / "x.mat", "annotations", ("name",))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_is_cut_off(tmp_path, share):
    savemat(tmp_path / "x.mat", {"annotations": struct_array(NAMES, NUMBERS)})
    whole = (tmp_path / "x.mat").read_bytes()
    (tmp_path / "x.mat").write_bytes(whole[: int(share * len(whole)) // 8 * 8])
    with pytest.raises(ValueError, match="an element that is longer than what is left"):
        matlab.records(tmp_path / "x.mat", "annotations", ("name",))
