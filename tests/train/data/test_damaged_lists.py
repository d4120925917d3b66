"""Damaged lists, tables and annotations: the data set loads, or ends in one line that names a file of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.train.data.test_damage import mutated, outcome
from tests.train.data_sets import make_cars196, make_cub200, make_inshop, make_sop

pytest.importorskip("matplotlib")

from train.data import splits


def make_csv(root: Path) -> Path:
    folder = make_sop(root)
    rows = [line.split() for part in ("train", "test") for line in (folder / f"Ebay_{part}.txt").open()]
    parts = {str(label): "train" if label <= 4 else "test" for label in range(1, 9)}
    lines = [f'"{folder.name}/{path}",{label},{parts[label]}\n' for _, label, _, path in rows if label in parts]
    (root / "list.csv").write_text("".join(["path,label,split\n", *lines]))
    return root / "list.csv"


def make_parquet(root: Path) -> Path:
    pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(make_csv(root)), root / "list.parquet")
    return root / "list.parquet"


def make_plain_mat(root: Path) -> Path:
    """The annotations without compression, so that damage meets the reader of arrays and not that of zlib."""
    folder = make_cars196(root)
    stored = loadmat(folder / "cars_annos.mat")
    savemat(folder / "cars_annos.mat", {"annotations": stored["annotations"]}, do_compression=False)
    return folder


KINDS = {
    "cub200 images": ("cub200", make_cub200, "images.txt"),
    "cub200 labels": ("cub200", make_cub200, "image_class_labels.txt"),
    "cars196": ("cars196", make_cars196, "cars_annos.mat"),
    "cars196 plain": ("cars196", make_plain_mat, "cars_annos.mat"),
    "cars196 devkit": ("cars196", lambda root: make_cars196(root, "b"), "cars_test_annos_withlabels.mat"),
    "cars196 names": ("cars196", lambda root: make_cars196(root, "b"), "devkit/cars_meta.mat"),
    "sop": ("sop", make_sop, "Ebay_train.txt"),
    "inshop": ("inshop", make_inshop, "Eval/list_eval_partition.txt"),
    "csv": ("csv", make_csv, ""),
    "parquet": ("csv", make_parquet, ""),
}


def check_mutations(root: Path, kind: str, seeds: range) -> None:
    name, make, damaged = KINDS[kind]
    path = make(root)
    file = path / damaged
    whole = file.read_bytes()
    refused = 0
    for seed in seeds:
        file.write_bytes(mutated(np.random.default_rng(seed), whole))
        message = outcome(lambda path: splits.load(name, str(path), 32, any_count=True), path)
        if message is not None:
            refused += 1
            assert str(root) in message and "\n" not in message and len(message) < 700, f"seed {seed}: {message}"
    assert refused > len(seeds) / 10


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_damaged_lists(tmp_path, kind):
    check_mutations(tmp_path, kind, range(300))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_damaged_lists(tmp_path, kind):
    check_mutations(tmp_path, kind, range(1000, 6000))
