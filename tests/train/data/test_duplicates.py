"""Images that stand in both halves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from train.data import splits


def test_duplicate_files_are_counted_and_named(torchvision, folder, tmp_path, capsys):
    root = tmp_path / "set"
    shutil.copytree(folder, root)
    before = splits.load("folder", str(root), 32, 0)
    assert before.description["duplicates"] == {"count": 0, "images": []}
    assert before.warning() == ""
    seen, unseen = before.train.stored(3), before.test.stored(0)
    shutil.copy(seen, unseen.parent / "copy.png")
    shutil.copy(seen, unseen.parent / "again.png")
    halves = splits.load("folder", str(root), 32, 0)
    pairs = [(str(seen), str(unseen.parent / name)) for name in ("again.png", "copy.png")]
    assert halves.description["duplicates"] == {"count": 2, "images": pairs}

    from train.main import main

    options = ("--arch", "small", "--epochs", "0", "--batch-size", "20", "--device", "cpu", "--workers", "0")
    assert main(["--dataset", "folder", "--data", str(root), *options, "--out", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("run.py: warning: 2 of the 38 images of unseen classes also stand among those trained on")
    assert str(seen) in err and str(unseen.parent / "again.png") in err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["dataset"]["duplicates"]["count"] == 2


def test_duplicate_arrays(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (16, 6, 6), np.uint8)
    x[9] = x[2]
    np.savez(tmp_path / "set.npz", x=x, y=np.arange(16) // 2)
    found = [splits.load("npz", str(tmp_path / "set.npz"), 32, seed).description["duplicates"] for seed in range(20)]
    counts = {pairs["count"] for pairs in found}
    assert counts == {0, 1}  # by where the split puts the two classes
    assert {frozenset(pair) for pairs in found for pair in pairs["images"]} == {frozenset(("1[2]", "4[9]"))}
