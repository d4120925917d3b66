"""What comes from elsewhere is data: nothing in it is run, and a damaged or hostile file ends in one line."""

from __future__ import annotations

import ast
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.runs import ROOT, check_refused, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train import checkpoints
from train.data.sources import arrays
from train.errors import UserError, one_line
from train.model import backbones

SOURCES = sorted(path for room in ("metrix_ext", "train", "bench") for path in (ROOT / room).rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
HARMLESS = {"UnpicklingError"}  # an exception


def unsafe(node):
    """What in this piece of a program would run what a file says; None if nothing."""
    if isinstance(node, ast.ImportFrom) and node.module in UNPICKLERS:
        return {alias.name for alias in node.names} - HARMLESS or None
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & UNPICKLERS or None
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        option, value = SAFE.get(name, ("", None))
        if name in ("eval", "exec") or (option and given.get(option) != str(value)):
            return ast.unparse(node)
    return None


@pytest.mark.parametrize("program", ["import pickle", "np.load(p)", "torch.load(p, weights_only=False)", "eval(x)"])
def test_the_search_finds_what_unpickles(program):
    assert any(unsafe(node) for node in ast.walk(ast.parse(program)))


def test_nothing_unpickles():
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if unsafe(node):
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = unsafe(node)
    assert len(SOURCES) > 80
    assert found == {}


def test_torchvisions_own_weights_are_not_unpickled(monkeypatch):
    """Its default would; the file lies in a cache that others may write to."""
    from torchvision import models
    from torchvision.models import _api

    asked = {}
    state = models.get_model("resnet18", weights=None).state_dict()
    monkeypatch.setattr(_api, "load_state_dict_from_url", lambda url, **options: asked.update(options) or state)
    backbones.build("resnet18", "imagenet", 32)
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def hostile_files(folder: Path, touched: Path):
    torch.save({"model": Touch(touched)}, folder / "zip.pt")
    torch.save(Touch(touched), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (folder / "plain.pt").write_bytes(pickle.dumps(Touch(touched)))
    np.savez(folder / "object.npz", x=np.array([Touch(touched)], object), y=np.zeros(1, int))
    np.save(folder / "object.npy", np.array([Touch(touched)], object))


def test_hostile_files_are_refused_and_do_nothing(tmp_path):
    touched = tmp_path / "touched"
    hostile_files(tmp_path, touched)
    for path in sorted(tmp_path.iterdir()):
        readers = (arrays.read,) if path.suffix in (".npz", ".npy") else (checkpoints.load, load_weights)
        for read in readers:
            with pytest.raises(UserError, match=path.name) as raised:
                read(path)
            assert "weights_only" not in str(raised.value)  # no advice to run it
            assert "\n" not in one_line(raised.value)
    assert not touched.exists()
    with pytest.raises(FileExistsError):  # it would have been
        os.mkdir(tmp_path)


def load_weights(path):
    backbones.build("resnet18", str(path), 32)


def some_checkpoint():
    file = io.BytesIO()
    torch.save({"model": {"w": torch.randn(20)}, "epoch": 3, "config": {"data": os.fsdecode(b"\xff")}}, file)
    return file.getvalue()


def check_damaged_checkpoints(tmp_path, seeds):
    from tests.train.data.test_damage import mutated, outcome

    path, whole = tmp_path / "c.pt", some_checkpoint()
    for seed in seeds:
        path.write_bytes(mutated(np.random.default_rng(seed), whole))
        message = outcome(checkpoints.load, path)
        assert message is None or (str(path) in message and "\n" not in message), f"seed {seed}: {message}"


def test_damaged_checkpoints(tmp_path):
    check_damaged_checkpoints(tmp_path, range(100))


@pytest.mark.slow
def test_ten_thousand_damaged_checkpoints(tmp_path):
    check_damaged_checkpoints(tmp_path, range(1000, 11_000))


def test_a_whole_checkpoint_is_read(tmp_path):
    (tmp_path / "c.pt").write_bytes(some_checkpoint())
    assert checkpoints.load(tmp_path / "c.pt")["config"] == {"data": os.fsdecode(b"\xff")}


@pytest.mark.parametrize("stored", [[1, 2], {"a": 1}, torch.zeros(3), {"conv1.weight": torch.zeros(2)}, {1: 2}, None])
def test_weights_of_something_else(tmp_path, stored):
    torch.save(stored, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt cannot be read as a state dict of torchvision's resnet18"):
        load_weights(tmp_path / "w.pt")


def test_a_run_with_hostile_weights_is_one_line(tmp_path, capsys, cache):
    hostile_files(tmp_path, tmp_path / "touched")
    options = ("--arch", "resnet18", "--device", "cpu", "--out", tmp_path / "out")
    check_refused(*run_here(capsys, *options, "--weights", tmp_path / "zip.pt"), "zip.pt cannot be read")


def test_an_archive_with_a_member_that_leads_elsewhere(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("../x.npy", b"")
    with pytest.raises(UserError, match="lacks the array x or y"):
        arrays.read(tmp_path / "set.npz")
    assert not (tmp_path.parent / "x.npy").exists()
