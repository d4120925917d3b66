"""What lies among the images of a folder: skipped and counted, never fatal, never waited for."""

from __future__ import annotations

import json
import os
import shutil
import socket

import numpy as np
import pytest
from PIL import Image

from tests.train.runs import run_here

pytest.importorskip("matplotlib")

from train.data import splits
from train.data.decoding import FORMATS
from train.data.sources import folder as source
from train.errors import UserError


@pytest.fixture
def own(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "set")
    return tmp_path / "set"


def load(root):
    return source.load(str(root), 32)


def add_finder_and_windows(root):
    for name in ("._0.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (root / "class100" / name).write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX", ".ipynb_checkpoints", ".git", "@eaDir"):
        for where in (root, root / "class101"):
            shutil.copytree(root / "class102", where / name / "class102")


def add_links(root):
    (root / "class100" / "broken.png").symlink_to("nowhere.png")
    (root / "class100" / "loop.png").symlink_to("loop.png")
    (root / "class100" / "up").symlink_to("..")
    (root / "loop").symlink_to(".")
    (root / "upper").symlink_to("..")
    (root / "broken").symlink_to("nowhere")
    (root / "itself").symlink_to("itself")


def add_special(root):
    os.mkfifo(root / "class100" / "p.png")
    os.mkfifo(root / "class100" / "p")
    (root / "class100" / "zero.png").symlink_to("/dev/zero")
    (root / "class100" / "x.png").mkdir()
    here = os.getcwd()
    os.chdir(root / "class100")  # the path of a socket may not be long
    socket.socket(socket.AF_UNIX).bind("s.png")
    os.chdir(here)


ODD = [
    (add_finder_and_windows, {source.HIDDEN: 12}),
    (add_links, {source.BROKEN: 6, source.LINKED: 1}),
    (add_special, {source.SPECIAL: 4, source.NAMED_AS_IMAGE: 1}),
]


@pytest.mark.parametrize(("add", "counted"), ODD, ids=[add.__name__ for add, _ in ODD])
def test_what_is_no_image_is_skipped_and_counted(own, add, counted):
    plain = load(own)
    assert plain.skipped == {source.NO_IMAGE: 1, source.NO_CLASS: 1, source.EMPTY: 1}
    add(own)
    found = load(own)
    assert found.images == plain.images
    assert found.names == plain.names
    assert found.labels.tolist() == plain.labels.tolist()
    assert found.skipped == {**plain.skipped, **counted}


def test_a_run_tells_what_it_skipped(torchvision, own, tmp_path, capfd):
    for add, _ in ODD:
        add(own)
    from train.main import main

    options = ("--arch", "small", "--epochs", "0", "--batch-size", "20", "--device", "cpu", "--workers", "0")
    assert main(["--dataset", "folder", "--data", str(own), *options, "--out", str(tmp_path / "out")]) == 0
    out, err = capfd.readouterr()
    (line,) = [line for line in out.splitlines() if line.startswith("skipped ")]
    skipped = json.loads((tmp_path / "out" / "summary.json").read_text())["dataset"]["skipped"]
    assert skipped[source.HIDDEN] == 12
    assert all(f"{count} {reason}" in line for reason, count in skipped.items())
    assert err == ""


def test_suffixes_of_any_case_and_none(tmp_path):
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    names = ("A.PNG", "b.Jpeg", "c.JPG", "d.webp", "e.avif", "without", "f.jfif")
    formats = ("PNG", "JPEG", "JPEG", "WEBP", "AVIF", "PNG", "JPEG")
    (tmp_path / "class").mkdir()
    for name, kind in zip(names, formats, strict=True):
        if kind in FORMATS:
            image.save(tmp_path / "class" / name, kind)
    (tmp_path / "class" / "README").write_text("P1 and BM are how some images begin")
    (tmp_path / "class" / "Python").write_text("Python")
    (tmp_path / "class" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    found = load(tmp_path)
    assert {file.name for file in found.images} >= {"A.PNG", "b.Jpeg", "c.JPG", "without", "f.jfif"}
    assert found.skipped[source.NO_IMAGE] == 2
    if ".webp" in source.SUFFIXES:
        assert tmp_path / "class" / "d.webp" in found.images
    if ".heic" not in source.SUFFIXES:
        assert found.skipped[source.UNDECODED] == 1


HOSTILE = ("<script>alert(1)<", "$x$", r"$\frac{", "a\x1b[31m", "two\nlines", os.fsdecode(b"\xff\xfe"), "%s", "日本語")


def test_classes_and_files_of_any_name(torchvision, folder, tmp_path, capfd):
    root, out_folder = tmp_path / os.fsdecode(b"set\xe9"), tmp_path / os.fsdecode(b"out\xe9")
    for name, own in zip(HOSTILE, sorted(folder.glob("class*")), strict=False):
        (root / name).mkdir(parents=True)
        for i, file in enumerate(sorted(own.rglob("*.png"))):
            shutil.copy(file, root / name / f"{name}{i}.png")
    from train.main import main

    options = ("--arch", "small", "--epochs", "1", "--batch-size", "20", "--device", "cpu", "--workers", "0")
    assert main(["--dataset", "folder", "--data", str(root), *options, "--out", str(out_folder)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert b"out\xe9" in os.fsencode(out)
    halves = splits.load("folder", str(root), 32, 0)
    assert set(halves.train.names + halves.test.names) == set(HOSTILE)
    (root / "$x$" / "$x$0.png").write_bytes(b"no image")
    (root / "two\nlines" / "two\nlines0.png").write_bytes(b"no image")
    status, err = run_here(capfd, "--dataset", "folder", "--data", root, *options, "--out", tmp_path / "other")
    assert status == 2
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_a_folder_that_cannot_be_listed_is_named(own, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"set cannot be listed .Permission denied."):
        load(own)
