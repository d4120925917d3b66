"""What the tests of the driver share: data sets."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of glyphs, built once for all tests and the runs they start, in all processes of pytest-xdist."""
    from train.data.sources import glyphs

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "glyphs"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRIX_CACHE", str(folder))
        with FileLock(folder / "lock"):
            glyphs.drawings(32)
        yield folder


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """12 classes of 6 images, 20 x 24, each class with its own colours."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(100, 112), 6)
    colours = rng.integers(0, 256, (12, 3))[y - 100]
    x = np.clip(colours[:, None, None] + rng.normal(0, 20, (72, 20, 24, 3)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture(scope="session")
def folder(archive, tmp_path_factory):
    """The same images as files, among other things that do not belong to the data set."""
    from PIL import Image

    root = tmp_path_factory.mktemp("folder")
    with np.load(archive) as stored:
        for i, (image, label) in enumerate(zip(stored["x"], stored["y"], strict=True)):
            (root / f"class{label}" / "deeper").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / f"class{label}" / "deeper" / f"{i}.png")
    (root / "class100" / "notes.txt").write_text("no image")
    (root / "readme.md").write_text("no class")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="session")
def damaged_folder(folder, tmp_path_factory):
    """The same again, with half of each image missing."""
    root = tmp_path_factory.mktemp("damaged") / "set"
    shutil.copytree(folder, root)
    for image in root.rglob("*.png"):
        image.write_bytes(image.read_bytes()[:300])
    return root


@pytest.fixture(scope="session")
def trained(archive, tmp_path_factory):
    """The folder of a run of one epoch on the archive."""
    pytest.importorskip("torchvision")
    pytest.importorskip("matplotlib")
    from train.main import main

    out = tmp_path_factory.mktemp("trained") / "run"
    given = ("--dataset", "npz", "--data", archive, "--epochs", 1, "--batch-size", 20, "--device", "cpu", "--out", out)
    assert main([str(argument) for argument in given]) == 0
    return out


@pytest.fixture
def torchvision():
    return pytest.importorskip("torchvision")
