"""Data sets that are a table of path,label[,split], as CSV or Parquet."""

from __future__ import annotations

import csv
import re
import sys

import numpy as np
import pytest

from tests.train.data_sets import colour, draw, middle

pytest.importorskip("matplotlib")

from train.data import splits
from train.errors import UserError, one_line

CLASSES = ("10", "9", "wren, grey", "owl", "2", "ünïcode")
IN_ORDER = ["2", "9", "10", "owl", "wren, grey", "ünïcode"]


@pytest.fixture(params=["csv", "parquet"])
def write(request, tmp_path):
    """Writes rows as a table beside the images, of either kind."""

    def table(header, rows):
        file = tmp_path / f"list.{request.param}"
        if request.param == "csv":
            with open(file, "w", newline="", encoding="utf-8") as text:
                csv.writer(text).writerows([header, *rows])
            return file
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
        parquet.write_table(pyarrow.table(dict(zip(header, columns, strict=True))), file)
        return file

    return table


@pytest.fixture
def images(tmp_path):
    """4 images of each class, (path, label), their paths relative to the table, or absolute."""
    rows = []
    for label, name in enumerate(CLASSES):
        for number in range(4):
            path = tmp_path / "images" / f"{label}{number}.jpg"
            draw(path, label, number, size=16)
            rows.append((str(path) if number == 3 else f"images/{path.name}", name))
    return rows


def refused(file, name="csv", **options):
    with pytest.raises(UserError) as raised:
        splits.load(name, str(file), 32, **options)
    line = one_line(raised.value)
    assert line == str(raised.value)
    return line


@pytest.mark.parametrize("name", ["csv", "folder"])
def test_paths_and_labels(write, images, name):
    """Numbers by their value, then names; columns in any order, others left alone."""
    file = write(["note", "label", "path"], [("x", label, path) for path, label in images])
    halves = splits.load(name, str(file), 32, split="order")
    assert halves.train.names + halves.test.names == IN_ORDER
    assert len(halves.train) == len(halves.test) == 12
    for half in (halves.train, halves.test):
        for i in range(len(half)):
            expected = colour(CLASSES.index(half.names[half.labels[i]]))
            assert np.abs(middle(np.asarray(half.picture(i))).mean((0, 1)) - expected).max() < 12
    assert splits.load(name, str(file), 32).description["split"] == "random"


def parts_of(images, **part_of):
    """Of class number c, image number i, the part."""
    parts = [part_of[f"c{CLASSES.index(label)}"][i % 4] for i, (_, label) in enumerate(images)]
    return [(path, label, part) for (path, label), part in zip(images, parts, strict=True)]


TRAIN, VAL, TEST, BOTH = (("train",) * 4, ("val",) * 4, ("test",) * 4, ("query", "gallery", "gallery", "gallery"))


def test_its_own_halves(write, images):
    rows = parts_of(images, c0=TRAIN, c1=TEST, c2=TRAIN, c3=VAL, c4=TEST, c5=VAL)
    halves = splits.load("csv", str(write(["path", "label", "split"], rows)), 32)
    assert halves.train.names == ["10", "wren, grey"]
    assert halves.validation.names == ["owl", "ünïcode"]
    assert halves.test.names == ["2", "9"]
    assert halves.gallery is None
    assert halves.description["split"] == "listed"


def test_its_own_gallery(write, images):
    rows = parts_of(images, c0=TRAIN, c1=BOTH, c2=TRAIN, c3=BOTH, c4=BOTH, c5=TRAIN)
    halves = splits.load("csv", str(write(["path", "label", "split"], rows)), 32)
    assert halves.test.names == halves.gallery.names == ["2", "9", "owl"]
    assert (len(halves.train), len(halves.test), len(halves.gallery)) == (12, 3, 9)
    assert sorted(halves.gallery.labels.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_gallery_without_what_is_searched(write, images):
    rows = parts_of(images, c0=TRAIN, c1=("query",) * 4, c2=TRAIN, c3=("gallery",) * 4, c4=TRAIN, c5=("query",) * 4)
    file = write(["path", "label", "split"], rows)
    assert "no query with an image of its class in the gallery" in refused(file)
    for path, _, part in rows:
        if part == "gallery":
            (file.parent / path).write_bytes(b"no image")
    assert "no query with an image of its class in the gallery" in refused(file, skip_damaged=True)


@pytest.mark.parametrize(
    ("header", "change", "words"),
    [
        (("path", "label", "split"), lambda p, y: (p, y, ""), "row . has no split"),
        (("path", "label", "split"), lambda p, y: (p, y, "Train"), "part 'Train' is none of train, val, test, query"),
        (("path", "label"), lambda p, y: (p, ""), "row . has no label"),
        (("path", "class"), lambda p, y: (p, y), "has no column label; its columns are path"),
        (("path", "label"), lambda p, y: (f"no{p}", y), "24 images are missing, for example .*/no"),
    ],
)
def test_tables_that_do_not_fit(write, images, header, change, words):
    line = refused(write(header, [change(*row) for row in images]))
    assert re.search(words, line)


def test_a_class_in_two_halves(write, images):
    file = write(["path", "label", "split"], parts_of(images, **{f"c{i}": ("train", "test") * 2 for i in range(6)}))
    assert "class 10 is listed as train and as test; halves share no class" in refused(file)


def test_an_empty_table(write):
    assert "it lists no images" in refused(write(["path", "label"], []))


def test_rows_of_another_length_are_not_guessed_at(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.jpg,1\n\nb, c.jpg,2\n")
    assert "row 4 has 3 columns, the header 2" in refused(tmp_path / "list.csv")


def test_a_byte_order_mark_and_blanks(tmp_path, images):
    lines = "".join(f'{path},"{label}"\r\n' for path, label in images)
    (tmp_path / "list.csv").write_bytes(("\ufeffpath , label\r\n" + lines).encode())
    assert splits.load("csv", str(tmp_path / "list.csv"), 32, split="order").train.names == IN_ORDER[:3]


def test_labels_of_parquet_may_be_numbers(tmp_path, images):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels = [CLASSES.index(label) * 3 for _, label in images]
    parquet.write_table(pyarrow.table({"path": [p for p, _ in images], "label": labels}), tmp_path / "list.parquet")
    halves = splits.load("csv", str(tmp_path / "list.parquet"), 32, split="order")
    assert halves.test.names == ["9", "12", "15"]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refused(tmp_path / "list.parquet")
    assert line == f"{tmp_path}/list.parquet needs pyarrow: pip install 'metrix_ext[parquet]', or save it as .csv"


def test_other_files_and_folders_are_no_tables(tmp_path, folder):
    (tmp_path / "list.txt").write_text("path,label\n")
    assert "list.txt is no table: give a .csv or .parquet file" in refused(tmp_path / "list.txt")
    assert "list.txt is no folder" in refused(tmp_path / "list.txt", name="folder")
    assert "is no table" in refused(folder)
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv cannot be read as a table" in refused(tmp_path / "folder.csv")


def test_damaged_images_of_a_table_are_skipped(write, images, tmp_path):
    file = write(["path", "label"], images)
    (tmp_path / "images" / "00.jpg").write_bytes(b"no image")
    halves = splits.load("csv", str(file), 32, skip_damaged=True)
    assert halves.description["damaged"] == [str(tmp_path / "images" / "00.jpg")]
    assert len(halves.train) + len(halves.test) == 23
