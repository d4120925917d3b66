"""Embeddings of a folder of images, written at once or in several starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests.train.runs import ROOT, check_refused, command_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train.commands import embed
from train.data.decoding import decode
from train.output import parts
from train.restore import restore

HERE = ("--device", "cpu", "--workers", 0, "--batch-size", 10)


@pytest.fixture
def images(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "images")


def read(path):
    with np.load(path, allow_pickle=False) as stored:
        return stored["paths"].tolist(), stored["embeddings"]


def expected_of(trained, folder, path):
    restored = restore(trained, torch.device("cpu"))
    with torch.no_grad():
        return restored.model(restored.input(decode(folder / path)))[0].numpy()


def test_every_image_with_its_path(trained, images, tmp_path, capsys):
    status, out, err = command_here(capsys, "embed", trained, images, "--out", tmp_path / "e.npz", *HERE)
    assert (status, err) == (0, "")
    assert f"{tmp_path / 'e.npz'}: 72 embeddings" in out
    paths, embeddings = read(tmp_path / "e.npz")
    assert paths == sorted(str(p.relative_to(images)) for p in images.rglob("*.png"))
    assert (embeddings.shape, embeddings.dtype) == ((72, 128), np.float32)
    for i in (0, 37, 71):
        np.testing.assert_allclose(embeddings[i], expected_of(trained, images, paths[i]), atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.npz", "images"]


def test_parquet_holds_the_same(trained, images, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("e.npz", "e.parquet"):
        assert command_here(capsys, "embed", trained, images, "--out", tmp_path / name, *HERE)[0] == 0
    table = parquet.read_table(tmp_path / "e.parquet")
    paths, embeddings = read(tmp_path / "e.npz")
    assert table.column("path").to_pylist() == paths
    np.testing.assert_array_equal(np.array(table.column("embedding").to_pylist(), np.float32), embeddings)


def count_decoded(monkeypatch, fail_at=None):
    """The files that are decoded from now on, in a list that fills."""
    decoded = []

    def counting(path):
        if len(decoded) == fail_at:
            raise RuntimeError("the power fails")
        decoded.append(path)
        return decode(path)

    monkeypatch.setattr(embed, "decode", counting)
    return decoded


def test_a_second_start_goes_on(trained, images, tmp_path, capsys, monkeypatch):
    arguments = ("embed", trained, images, "--out", tmp_path / "e.npz", "--part", 20, *HERE)
    count_decoded(monkeypatch, fail_at=50)
    with pytest.raises(RuntimeError, match="the power fails"):
        command_here(capsys, *arguments)
    assert not (tmp_path / "e.npz").exists()
    decoded = count_decoded(monkeypatch)
    assert command_here(capsys, *arguments)[0] == 0
    assert len(decoded) == 72 - 40  # of two whole parts nothing is computed again
    assert not (tmp_path / "e.npz.parts").exists()
    whole = tmp_path / "whole.npz"
    assert command_here(capsys, "embed", trained, images, "--out", whole, *HERE)[0] == 0
    assert read(tmp_path / "e.npz")[0] == read(whole)[0]
    np.testing.assert_allclose(read(tmp_path / "e.npz")[1], read(whole)[1], atol=1e-6)


def test_parts_of_other_images_are_not_taken(images):
    files = sorted(images.rglob("*.png"))
    before = parts.fingerprint(files, 20)
    assert parts.fingerprint(files, 20) == before
    assert parts.fingerprint(files, 21) != before
    assert parts.fingerprint(files[1:], 20) != before
    os.utime(files[3], ns=(1, 1))
    assert parts.fingerprint(files, 20) != before


def test_a_damaged_image_is_named_or_left_out(trained, images, tmp_path, capsys):
    damaged = sorted(images.rglob("*.png"))[33]
    damaged.write_bytes(damaged.read_bytes()[:100])
    arguments = ("embed", trained, images, "--out", tmp_path / "e.npz", *HERE)
    status, _, err = command_here(capsys, *arguments)
    check_refused(status, err, f"{damaged} cannot be read as an image")
    status, out, err = command_here(capsys, *arguments, "--skip-damaged")
    assert (status, err) == (0, "")
    assert "71 embeddings, 1 damaged images left out" in out
    paths, embeddings = read(tmp_path / "e.npz")
    assert len(paths) == len(embeddings) == 71
    assert str(damaged.relative_to(images)) not in paths
    np.testing.assert_allclose(embeddings[33], expected_of(trained, images, paths[33]), atol=1e-5)


def test_a_name_in_no_encoding(trained, tmp_path, capsys, folder):
    pytest.importorskip("pyarrow")
    images = tmp_path / "images"
    images.mkdir()
    name = os.fsdecode(b"\xff.png")
    shutil.copy(next(folder.rglob("*.png")), images / name)
    assert command_here(capsys, "embed", trained, images, "--out", tmp_path / "e.npz", *HERE)[0] == 0
    assert read(tmp_path / "e.npz")[0] == [name]
    status, _, err = command_here(capsys, "embed", trained, images, "--out", tmp_path / "e.parquet", *HERE)
    check_refused(status, err, "is no UTF-8, which .parquet asks for")


def test_pyarrow_is_asked_for_before_the_work(trained, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    decoded = count_decoded(monkeypatch)
    status, _, err = command_here(capsys, "embed", trained, images, "--out", tmp_path / "e.parquet", *HERE)
    check_refused(status, err, "pip install 'metrix_ext[parquet]'")
    assert decoded == []


@pytest.mark.parametrize(
    ("images", "out", "words"),
    [
        ("images", "e.txt", "e.txt is of no known format: give a name that ends in .npz or .parquet"),
        ("images", "no/e.npz", "no is no folder that may be written to"),
        ("nowhere", "e.npz", "nowhere is no folder"),
        (".", "e.npz", "holds no images"),
    ],
)
def test_what_is_refused(trained, tmp_path, capsys, monkeypatch, images, out, words):
    monkeypatch.chdir(tmp_path)
    status, _, err = command_here(capsys, "embed", trained, images, "--out", out, *HERE)
    check_refused(status, err, words)


@pytest.mark.slow
def test_a_signal_ends_it_with_a_line_and_the_next_start_goes_on(trained, images, tmp_path):
    for i in range(1, 30):  # enough images to be stopped among them
        shutil.copytree(images / "class100", images / f"copy{i}")
    arguments = [
        sys.executable, str(ROOT / "train" / "embed.py"), str(trained), str(images), "--out", str(tmp_path / "e.npz"),
        "--part", "60", "--workers", "1", "--device", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("e.npz.parts/*.npz")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "stopped by SIGTERM; the same command goes on from where it was" in err
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "e.npz")[0]) == 72 + 29 * 6
