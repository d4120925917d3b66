"""Damaged files of every kind: the run goes on, or ends in one line that names the file."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.train.runs import check_refused, run_here

pytest.importorskip("matplotlib")

from train.data import splits
from train.data.decoding import FORMATS, decode
from train.data.sources import arrays
from train.errors import UserError, one_line

SIDE = 24


def image_bytes(kind, mode="RGB"):
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def npz_bytes(save):
    rng = np.random.default_rng(2)
    file = io.BytesIO()
    save(file, x=rng.integers(0, 256, (12, 4, 4, 3), np.uint8), y=np.arange(12) // 2)
    return file.getvalue()


def mutated(rng, data):
    """Cut, overwritten, zeroed, doubled or exchanged in some places."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 9))
        kind = rng.integers(0, 6)
        if kind == 0:
            data[start : start + length] = rng.bytes(length)
        elif kind == 1:
            data[start : start + length] = bytes(length)
        elif kind == 2:
            data[start : start + length] = b"\xff" * length
        elif kind == 3:
            data[start] ^= 1 << int(rng.integers(0, 8))
        elif kind == 4:
            data[start:start] = data[max(0, start - length) : start]
        else:
            del data[start : start + (length if rng.random() < 0.7 else len(data))]
        if not data:
            break
    return bytes(data)


def read_npz(path):
    halves = splits.load("npz", str(path), 32, split_seed=0)
    for half in (halves.train, halves.test):
        for i in range(len(half)):
            half.picture(i)


def npy_inside(rng):
    """A whole archive of damaged arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in (("x", np.zeros((12, 4, 4, 3), np.uint8)), ("y", np.arange(12) // 2)):
            member = io.BytesIO()
            np.save(member, values)
            archive.writestr(f"{name}.npy", mutated(rng, member.getvalue()))
    return file.getvalue()


KINDS = {
    **{kind.lower(): (lambda rng, kind=kind: mutated(rng, image_bytes(kind)), decode) for kind in ("PNG", "JPEG")},
    "npz": (lambda rng: mutated(rng, npz_bytes(np.savez)), read_npz),
    "compressed.npz": (lambda rng: mutated(rng, npz_bytes(np.savez_compressed)), read_npz),
    "inner.npz": (npy_inside, read_npz),
}
OTHERS = {
    kind.lower(): (lambda rng, kind=kind: mutated(rng, image_bytes(kind)), decode)
    for kind in ("GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
    if kind in FORMATS
}


def check_mutations(tmp_path, kind, count, seed):
    make, read = {**KINDS, **OTHERS}[kind]
    path = tmp_path / f"file.{kind}"
    refused = 0
    for number in range(seed, seed + count):
        rng = np.random.default_rng(number)
        path.write_bytes(make(rng))
        message = outcome(read, path)
        if message is not None:
            refused += 1
            assert str(path) in message and "\n" not in message and len(message) < 600, f"seed {number}: {message}"
    assert refused > count / 10


def outcome(read, path):
    """The line that the user gets; None if there is nothing to complain about."""
    try:
        read(path)
    except UserError as error:
        return one_line(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n"
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_hundred_damaged_files(tmp_path, kind):
    check_mutations(tmp_path, kind, 150, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_ten_thousand_damaged_files(tmp_path, kind):
    check_mutations(tmp_path, kind, 10_000, seed=1000)


def test_an_archive_that_unpacks_to_more_than_the_memory(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((100, 64, 64), np.uint8), y=np.zeros(100, int))
    monkeypatch.setattr(os, "sysconf", lambda _name: 512)
    with pytest.raises(UserError, match=r"bomb\.npz cannot be read .* more than this machine has"):
        arrays.read(tmp_path / "bomb.npz")


def test_an_array_that_claims_to_be_huge(tmp_path):
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (10**15, 4, 4)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", member.getvalue())
        archive.writestr("y.npy", member.getvalue())
    with pytest.raises(UserError, match=r"huge\.npz cannot be read"):
        arrays.read(tmp_path / "huge.npz")


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, what):
    if what == "pipe":
        os.mkfifo(tmp_path / "set.npz")
    elif what == "device":
        (tmp_path / "set.npz").symlink_to("/dev/zero")
    else:
        (tmp_path / "set.npz").mkdir()
    with pytest.raises(UserError, match=r"set\.npz cannot be read as an \.npz file .it is no regular file"):
        arrays.read(tmp_path / "set.npz")


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_images_are_skipped_on_request(torchvision, folder, tmp_path, capsys, workers):
    root = tmp_path / "set"
    shutil.copytree(folder, root)
    for file in (root / "class103").rglob("*.png"):
        file.write_bytes(b"no image")
    one = root / "class100" / "deeper" / "0.png"
    one.write_bytes(one.read_bytes()[:300])
    options = ("--dataset", "folder", "--data", root, "--arch", "small", "--epochs", 1, "--batch-size", 20)
    options = (*options, "--device", "cpu", "--workers", workers, "--out", tmp_path / "out")
    check_refused(*run_here(capsys, *options), ".png cannot be read as an image")
    assert run_here(capsys, *options, "--skip-damaged") == (0, "")
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())["dataset"]
    assert stored["skipped"]["damaged"] == 7
    assert str(one) in stored["damaged"]
    assert stored["train_images"] + stored["test_images"] == 72 - 7
    assert stored["train_classes"] + stored["test_classes"] == 11
