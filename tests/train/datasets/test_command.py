"""draw.py: from packages on the disk to a file that run.py reads, its record, and what is printed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.train.datasets.packed import family, pack, square
from tests.train.runs import ROOT, check_refused
from train.data import splits
from train.datasets import baselines, icons
from train.datasets.command import main
from train.datasets.packages import Package

pytest.importorskip("resvg_py")
pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Six families of five things; the sixth lacks one."""
    found = tuple(Package(f"@art/f{i}", f"1.0.{i}") for i in range(6))
    for i, package in enumerate(found):
        things = {f"thing{j}": square(3 * i, 4 * j, 5) for j in range(5 if i < 5 else 4)}
        pack(tmp_path, package, family(f"f{i}", things, licence="ISC" if i else "MIT"))
    monkeypatch.setattr(icons, "PACKAGES", found)
    return tmp_path


def draw(capsys, folder, *more, out="set.npz"):
    status = main(["icons", "--out", str(folder / out), "--packages", str(folder), *map(str, more)])
    return (status, *capsys.readouterr())


def test_the_file_is_what_run_reads(packages, capsys):
    status, _, err = draw(capsys, packages)
    assert (status, err) == (0, "")
    with np.load(packages / "set.npz", allow_pickle=False) as stored:
        assert set(stored) == {"x", "y", "name", "src"}
        assert (stored["x"].shape, stored["x"].dtype) == ((29, 64, 64, 3), np.uint8)
        assert stored["y"].tolist() == sorted([0, 1, 2, 3, 4] * 5 + [0, 1, 2, 3])
        assert [f"thing{label}" for label in stored["y"]] == stored["name"].tolist()
        assert stored["src"][:6].tolist() == ["f0", "f1", "f2", "f3", "f4", "f5"]
    halves = splits.load("npz", str(packages / "set.npz"), 64)
    assert len(halves.train) + len(halves.test) == 29


def test_the_record_says_what_it_is_made_of(packages, capsys):
    _, out, _ = draw(capsys, packages)
    record = json.loads((packages / "set.json").read_text())
    assert (record["images"], record["classes"]) == (29, 5)
    assert record["classes_by_images"] == {"5": 1, "6": 4}
    assert record["sources"][0] == {
        "name": "f0", "package": "@art/f0", "version": "1.0.0", "licence": "MIT", "images": 5,
    }  # fmt: skip
    assert record["sha256"] == hashlib.sha256((packages / "set.npz").read_bytes()).hexdigest()
    lines = out.splitlines()
    assert lines[0] == f"{packages / 'set.npz'}: 29 images of 5 classes from 6 packages"
    assert lines[1].split() == ["@art/f0", "1.0.0", "MIT", "5", "images"]
    assert lines[-2:] == ["classes by their number of images: 1 with 5, 4 with 6", f"SHA-256 {record['sha256']}"]


def test_the_same_packages_give_the_same_file(packages, capsys):
    draw(capsys, packages)
    draw(capsys, packages, out="again.npz")
    assert (packages / "again.npz").read_bytes() == (packages / "set.npz").read_bytes()


def test_an_existing_file_is_kept_unless_asked(packages, capsys):
    draw(capsys, packages)
    status, _, err = draw(capsys, packages)
    check_refused(status, err, "set.npz exists: give another name, or --overwrite")
    assert draw(capsys, packages, "--overwrite")[0] == 0


def test_names_that_numpy_would_change_are_refused(packages, capsys):
    status, _, err = draw(capsys, packages, out="set.data")
    check_refused(status, err, "set.data is no .npz file")


def test_packages_without_a_class_are_refused(packages, capsys, monkeypatch):
    monkeypatch.setattr(icons, "PACKAGES", icons.PACKAGES[:4])
    status, _, err = draw(capsys, packages)
    check_refused(status, err, "no class has enough drawings in")
    assert not (packages / "set.npz").exists()


def test_a_missing_package_is_named(packages, capsys, monkeypatch):
    (packages / "art-f3-1.0.3.tgz").unlink()
    monkeypatch.setenv("PATH", str(packages))  # without npm
    status, out, err = draw(capsys, packages)
    assert out == "npm pack @art/f3@1.0.3\n"
    check_refused(status, err, "npm is missing: install it, or put art-f3-1.0.3.tgz into")


def test_measures_name_both_baselines(packages, capsys, monkeypatch):
    shapes = []

    def backbone(_arch, _weights, size):
        return baselines.lite.Backbone(Recorder(shapes), 3, baselines.lite.STATISTICS)

    monkeypatch.setattr(baselines.lite, "backbone", backbone)
    out = draw(capsys, packages, "--measure", 32)[1].splitlines()[-1]
    assert set(shapes) == {(3, 32, 32)}
    assert out.startswith("Recall@1 among ") and " classes: raw pixels " in out
    assert ", frozen efficientnet-lite0 at 32 pixels " in out


class Recorder(baselines.lite.nn.Module):
    """The images themselves as the feature map."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes

    def forward(self, images):
        self.shapes.append(tuple(images.shape[1:]))
        return images


@pytest.mark.slow
def test_the_script_runs_by_its_path(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "train" / "draw.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "icons or characters" in done.stdout
