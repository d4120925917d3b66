"""Which classes train, validate and stay unseen: by order, by seed, by a file, and what files may get wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.train.data.test_damage import mutated, outcome
from tests.train.data_sets import make_cub200, make_inshop, make_sop

pytest.importorskip("matplotlib")

from train.data import splits
from train.errors import UserError, one_line

NAMES = [f"class{number}" for number in range(100, 112)]


def load(folder, **options):
    return splits.load("folder", str(folder), 32, **options)


def refused(folder, **options):
    with pytest.raises(UserError) as raised:
        load(folder, **options)
    line = one_line(raised.value)
    assert line == str(raised.value)
    return line


def names(halves):
    validation = halves.validation.names if halves.validation else []
    return halves.train.names, validation, halves.test.names


def test_by_order(folder):
    assert names(load(folder, split="order")) == (NAMES[:6], [], NAMES[6:])
    assert names(load(folder, split="order", split_seed=3)) == (NAMES[:6], [], NAMES[6:])


def test_by_seed_unless_told_otherwise(folder):
    by_default = load(folder)
    order = np.random.default_rng(0).permutation(12)
    assert names(by_default) == ([NAMES[c] for c in order[:6]], [], [NAMES[c] for c in order[6:]])
    assert names(load(folder, split="random")) == names(by_default)
    assert names(load(folder, split_seed=1)) != names(by_default)
    assert by_default.description["split"] == "random"


@pytest.mark.parametrize("name", ["npz", "folder"])
def test_order_is_that_of_the_sorted_classes(archive, folder, name):
    halves = splits.load(name, str({"npz": archive, "folder": folder}[name]), 32, split="order")
    assert [name[-3:] for name in halves.test.names] == [str(number) for number in range(106, 112)]


def test_by_a_text_file(folder, tmp_path):
    file = tmp_path / "training classes"
    file.write_text(f"{NAMES[7]}\n  {NAMES[1]}  \n\n{NAMES[4]}\n")
    halves = load(folder, split=str(file))
    assert names(halves)[0] == [NAMES[1], NAMES[4], NAMES[7]]
    assert len(halves.test.names) == 9
    assert halves.description["split"] == str(file)


def test_by_a_table(folder, tmp_path):
    parts = ["train", "val", "test"] * 4
    lines = [f"{part},{name},x" for name, part in zip(NAMES, parts, strict=True)]
    (tmp_path / "split.csv").write_text("\n".join(["split,class,note", *lines[::-1]]))
    halves = load(folder, split=str(tmp_path / "split.csv"))
    assert names(halves) == (NAMES[::3], NAMES[1::3], NAMES[2::3])
    assert (len(halves.train), len(halves.validation), len(halves.test)) == (24, 24, 24)
    assert str(halves) == "24 images of 4 seen, 24 of 4 validation and 24 of 4 unseen classes"


ALL = "".join(f"{name},test\n" for name in NAMES[2:])
BAD = [
    ("split.txt", "class100\nclass99\nno class\n", "names class class99 and 1 more, which the data set does not have"),
    ("split.txt", "class100\n", "has 12 classes, 6 images of 1 seen .* at least 2 classes are needed in each part"),
    ("split.txt", "\n".join(NAMES), "12 classes, 72 images of 12 seen and 0 of 0 unseen classes"),
    ("split.csv", f"class,split\nclass100,train\n{ALL}", "does not say where class class101 of the data set belongs"),
    ("split.csv", f"class,split\nclass100,train\nclass101,query\n{ALL}", "puts class class101 into query: exp"),
    ("split.csv", f"class,split\nclass100,train\nclass100,test\n{ALL}", "puts class class100 into two parts"),
    ("split.csv", f"class,split\nclass99,train\n{ALL}", "names class class99, which"),
    ("split.csv", "class,part\nclass99,train\n", "has no column split; its columns are class, part"),
    ("split.csv", "class,split\nclass99\n", "row 2 has 1 columns, the header 2"),
    ("split.csv", "class,split\nclass99,\n", "row 2 has no split"),
    ("split.csv", "", "has no column class"),
    ("split.txt", "", "has 12 classes, 0 images of 0 seen"),
]


@pytest.mark.parametrize(("name", "text", "words"), BAD)
def test_split_files_that_do_not_fit(folder, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    line = refused(folder, split=str(tmp_path / name))
    assert re.search(words, line)
    assert name in line or str(folder) in line


def test_split_files_that_cannot_be_read(folder, tmp_path):
    (tmp_path / "split.txt").write_bytes(b"\xff\xfe\x80")
    for split in (tmp_path / "split.txt", tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.csv", "ordered"):
        assert f"{split} cannot be read as" in refused(folder, split=str(split))


@pytest.mark.parametrize("name", ["split.txt", "split.csv"])
def test_damaged_split_files(folder, tmp_path, name):
    header = "class,split\n" if name == "split.csv" else ""
    rows = [f"{c},{part}\n" if header else f"{c}\n" for c, part in zip(NAMES, ["train", "test"] * 6, strict=True)]
    whole = (header + "".join(rows if header else rows[::2])).encode()
    refusals = 0
    for seed in range(200):
        (tmp_path / name).write_bytes(mutated(np.random.default_rng(seed), whole))
        message = outcome(lambda path: load(folder, split=str(path)), tmp_path / name)
        if message is not None:
            refusals += 1
            assert name in message or str(folder) in message
            assert "\n" not in message and len(message) < 600, f"seed {seed}: {message}"
    assert refusals > 20


def test_published_data_sets_may_be_split_otherwise(tmp_path):
    folder = make_sop(tmp_path)
    halves = splits.load("sop", str(folder), 32, any_count=True, split="random", split_seed=1)
    assert set(halves.train.names) | set(halves.test.names) == {str(c) for c in range(1, 9)}
    assert halves.train.names != ["1", "2", "3", "4"]
    assert halves.description["split"] == "random"
    with pytest.raises(UserError, match="expected 59551 images"):  # whatever the split, the data set is not whole
        splits.load("sop", str(folder), 32, split="random")


def test_queries_and_their_gallery_are_not_split_otherwise(tmp_path):
    folder = make_inshop(tmp_path)
    with pytest.raises(UserError, match="--split order does not go with a data set that has queries and a gallery"):
        splits.load("inshop", str(folder), 32, any_count=True, split="order")


@pytest.mark.parametrize(("name", "make"), [("cub200", make_cub200), ("inshop", make_inshop)])
def test_validation_classes_come_from_the_training_half(tmp_path, name, make):
    folder = str(make(tmp_path, classes=20, per_class=2))
    without = splits.load(name, folder, 32, any_count=True)
    assert without.validation is None
    assert "validation_images" not in without.description
    found = [
        splits.load(name, folder, 32, any_count=True, val_fraction=0.3, split_seed=seed)
        for seed in (0, 0, 1)
    ]  # fmt: skip
    for halves in found:
        assert len(halves.validation.names) == 3
        assert len(halves.validation) == 6
        assert sorted(halves.train.names + halves.validation.names) == sorted(without.train.names)
        assert halves.test.names == without.test.names
        assert halves.test.labels.tolist() == without.test.labels.tolist()
        assert sorted(set(halves.validation.labels.tolist())) == [0, 1, 2]
        assert {halves.validation.picture(i).size for i in range(6)} == {(48, 40)}
    assert found[0].validation.names == found[1].validation.names != found[2].validation.names
    assert found[0].description["validation_classes"] == 3 and found[0].description["val_fraction"] == 0.3
    assert "20 images" not in str(found[0]) and "6 of 3 validation" in str(found[0])


def test_a_small_fraction_is_two_classes(folder):
    assert len(load(folder, val_fraction=0.01).validation.names) == 2


def test_fractions_that_leave_too_little(folder, tmp_path):
    assert "at least 2 classes are needed in each part" in refused(folder, val_fraction=0.9)
    for fraction in (-0.5, 1.0, float("nan")):
        assert "is not between 0 and 1" in refused(folder, val_fraction=fraction)
    rows = "".join(f"{name},{part}\n" for name, part in zip(NAMES, ["train", "val", "test"] * 4, strict=True))
    (tmp_path / "split.csv").write_text(f"class,split\n{rows}")
    assert "validation classes of its own" in refused(folder, val_fraction=0.5, split=str(tmp_path / "split.csv"))


def test_classes_of_one_image_cannot_validate(tmp_path):
    y = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 2, 2])
    np.savez(tmp_path / "set.npz", x=np.zeros((12, 4, 4), np.uint8), y=y)
    with pytest.raises(UserError, match="no class of 2 images to search among its validation classes"):
        splits.load("npz", str(tmp_path / "set.npz"), 32, split="order", val_fraction=0.5)
