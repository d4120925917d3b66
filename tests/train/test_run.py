"""How the driver is started, from where, and beside what."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.train.runs import ROOT, check_refused, finish, start

FOREIGN = "raise ImportError('a module of somebody else')"


@pytest.fixture
def checkout(tmp_path):
    """The driver beside sources of metrix_ext that are not to be used, and modules of names that the driver has too."""
    shutil.copytree(ROOT / "train", tmp_path / "checkout" / "train", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "checkout" / "metrix_ext").mkdir()
    for name in ("metrix_ext/__init__", "data", "model", "errors", "options"):
        (tmp_path / "checkout" / f"{name}.py").write_text(FOREIGN)
    return tmp_path / "checkout"


@pytest.fixture
def packages(tmp_path):
    """Installed are metrix_ext, and modules that others call as the driver calls its own."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "metrix_ext").symlink_to(ROOT / "metrix_ext")
    for name in ("train", "data", "model", "errors", "options"):
        (tmp_path / "packages" / f"{name}.py").write_text(FOREIGN)
    return tmp_path / "packages"


def start_in(checkout, packages, how, *arguments, at_start=""):
    """A run from the checkout; `at_start` is what Python does first of all in each process."""
    (packages / "sitecustomize.py").write_text(at_start)
    return subprocess.Popen(
        [sys.executable, *how, *map(str, arguments)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )


FILE, MODULE = ("train/run.py",), ("-m", "train.run")
ELSEWHERE = ("../train/run.py",)
FOREIGN_TRAIN = "import sys, types; sys.modules['train'] = types.ModuleType('train')"


def method(name):
    return f"import multiprocessing; multiprocessing.set_start_method('{name}')"


@pytest.mark.parametrize(
    ("how", "at_start"),
    [
        (FILE, f"{method('forkserver')}; {FOREIGN_TRAIN}"),
        (MODULE, method("spawn")),
    ],
    ids=["file-forkserver", "module-spawn"],
)
def test_workers_find_the_package_and_their_errors_are_one_line(
    torchvision, damaged_folder, checkout, packages, tmp_path, how, at_start
):
    process = start_in(
        checkout, packages, how, "--dataset", "folder", "--data", damaged_folder, "--arch", "small", "--device", "cpu",
        "--batch-size", 20, "--workers", 1, "--out", tmp_path / "out", at_start=at_start,
    )  # fmt: skip
    status, _, err = finish(process)
    check_refused(status, err, ".png cannot be read as an image")
    assert err.startswith(f"run.py: {damaged_folder}")


@pytest.mark.slow
def test_a_run_with_spawned_workers(torchvision, folder, checkout, packages, tmp_path):
    """From a folder where nothing of the driver lies."""
    (checkout / "elsewhere").mkdir()
    for name in ("train", "data"):
        (checkout / "elsewhere" / f"{name}.py").write_text(FOREIGN)
    process = start_in(
        checkout / "elsewhere", packages, ELSEWHERE, "--dataset", "folder", "--data", folder, "--arch", "small",
        "--epochs", 1, "--device", "cpu", "--batch-size", 20, "--workers", 1, "--out", tmp_path / "out",
        at_start=f"{method('spawn')}; {FOREIGN_TRAIN}",
    )  # fmt: skip
    status, _, err = finish(process, timeout=600)
    assert (status, err) == (0, "")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["dataset"]["test_classes"] == 6


# Without site-packages (-S), as where nothing is installed.


@pytest.mark.parametrize("how", [FILE, MODULE], ids=["file", "module"])
def test_help_needs_no_package(checkout, packages, how):
    (packages / "metrix_ext").unlink()
    status, out, err = finish(start_in(checkout, packages, ("-S", *how), "--help"))
    assert (status, err) == (0, "")
    assert "--dataset {glyphs,npz,folder,csv,cub200,cars196,sop,inshop}" in out


@pytest.mark.parametrize("how", [FILE, MODULE], ids=["file", "module"])
def test_sources_that_may_not_be_built_are_not_used(checkout, packages, how):
    (packages / "metrix_ext").unlink()
    for name in ("torch", "torchvision", "matplotlib", "PIL", "tqdm"):
        (packages / f"{name}.py").write_text("")
    status, _, err = finish(start_in(checkout, packages, ("-S", *how)))
    check_refused(status, err, "metrix_ext cannot be imported (ModuleNotFoundError")


def test_a_broken_torchvision_is_one_line(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    status, _, err = finish(start(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])))
    check_refused(status, err, "torchvision cannot be imported (RuntimeError: operator torchvision::nms")
