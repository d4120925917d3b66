"""Data sets from files: what is read, and what is refused."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from train import options
from train.data import sources, splits
from train.data.images import Collection, ImageSet
from train.data.registry import DATA_SETS
from train.errors import UserError


def images_by_class(half: ImageSet) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for i in range(len(half)):
        found.setdefault(half.names[half.labels[i]], []).append(half.picture(i).tobytes())
    return found


def test_npz_and_folder_hold_the_same_halves(archive, folder):
    from_npz = splits.load("npz", str(archive), 32, split_seed=3)
    from_folder = splits.load("folder", str(folder), 32, split_seed=3)
    for one, other in ((from_npz.train, from_folder.train), (from_npz.test, from_folder.test)):
        assert len(one) == 36
        assert sorted(set(one.labels.tolist())) == list(range(6))
        expected = {f"class{name}": sorted(images) for name, images in images_by_class(one).items()}
        assert expected == {name: sorted(images) for name, images in images_by_class(other).items()}
    assert not set(from_npz.train.names) & set(from_npz.test.names)
    assert from_npz.train.names != splits.load("npz", str(archive), 32, split_seed=4).train.names


def test_grey_arrays_become_rgb(tmp_path):
    x = np.arange(8 * 16 * 16, dtype=np.uint8).reshape(8, 16, 16)
    np.savez(tmp_path / "grey.npz", x=x, y=np.arange(8) // 2)
    half = splits.load("npz", str(tmp_path / "grey.npz"), 32, split_seed=0).train
    picture = np.asarray(half.picture(1))
    assert picture.shape == (16, 16, 3)
    assert any(np.array_equal(picture[..., 2], image) for image in x)


def arrays(**given):
    return {"x": np.zeros((8, 4, 4), np.uint8), "y": np.arange(8) // 2, **given}


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (arrays(x=np.zeros((8, 4, 4), np.float32)), "x in .* is float32"),
        (arrays(x=np.zeros((8, 3, 4, 4), np.uint8)), "x in .* is uint8 .8, 3, 4, 4."),
        (arrays(y=np.zeros(7, int)), "y in .* is int64 .7.; expected integers .8."),
        (arrays(y=np.zeros(8)), "y in .* is float64"),
        (arrays(y=np.zeros(8, int)), "1 classes"),
        (arrays(y=np.arange(8)), "no class of 2 images"),
        ({"x": np.zeros((8, 4, 4), np.uint8)}, "lacks the array x or y"),
        (arrays(y=np.array([None] * 8)), "cannot be read"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, stored, words):
    np.savez(tmp_path / "bad.npz", **stored)
    with pytest.raises(UserError, match=words):
        splits.load("npz", str(tmp_path / "bad.npz"), 32, split_seed=0)


def test_a_damaged_image_is_named(folder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((folder / "class100" / "deeper" / "0.png").read_bytes()[:300])
    half = ImageSet(Collection([broken], np.array([0]), ["only"]), np.array([0]))
    with pytest.raises(UserError, match=r"broken\.png cannot be read"):
        half[0]


def test_sources_and_the_command_line_name_the_same_data_sets():
    modules = [import_module(f"{sources.__name__}.{module.name}") for module in iter_modules(sources.__path__)]
    assert {module.__name__.rpartition(".")[2] for module in modules if hasattr(module, "load")} == set(DATA_SETS)
    for name in DATA_SETS:
        assert options.parse(["--dataset", name]).dataset == name
