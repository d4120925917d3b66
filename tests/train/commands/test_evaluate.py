"""Recall@K of a checkpoint."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from tests.train.data_sets import make_inshop
from tests.train.runs import check_refused, command_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train import evaluation
from train.commands import evaluate
from train.data import splits
from train.restore import restore

HERE = ("--device", "cpu", "--workers", 0)


def test_the_recall_is_that_of_the_run(trained, tmp_path, capsys):
    status, out, err = command_here(capsys, "evaluate", trained, *HERE, "--out", tmp_path / "f.json")
    assert (status, err) == (0, "")
    summary = json.loads((trained / "summary.json").read_text())
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["recall_at"] == pytest.approx(summary["recall_at"], abs=0.03)
    assert (found["epoch"], found["part"], found["images"], found["classes"]) == (1, "test", 36, 6)
    assert f"epoch 1, test: R@1 {100 * found['recall_at']['1']:.1f}  R@2" in out


def test_another_part_other_ks_other_batches(trained, tmp_path, capsys):
    arguments = ("--part", "train", "--k", "1,3", "--batch-size", 7, "--out", tmp_path / "f.json")
    assert command_here(capsys, "evaluate", trained, *HERE, *arguments)[0] == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert list(found["recall_at"]) == ["1", "3"]
    assert found["part"] == "train"


def test_other_measures(trained, tmp_path, capsys):
    status, out, _ = command_here(
        capsys, "evaluate", trained, *HERE, "--measures", "map_at_r,r_precision", "--out", tmp_path / "f.json"
    )
    found = json.loads((tmp_path / "f.json").read_text())
    assert status == 0
    assert 0 < found["map_at_r"] <= found["r_precision"] <= 1
    assert f"map_at_r {100 * found['map_at_r']:.1f}  r_precision" in out


def test_queries_search_the_gallery(trained, tmp_path, monkeypatch):
    """Those of In-Shop, by a network that was trained on something else."""
    restored = restore(trained, torch.device("cpu"))
    data = make_inshop(tmp_path)
    restored.config.update(dataset="inshop", data=str(data), any_count=True)
    parts = splits.of_options(restored.config, workers=0)
    asked = []
    monkeypatch.setattr(evaluation, "recall_at_k", lambda *given: asked.append(given) or {1: 0.5})
    args = argparse.Namespace(part="test", data=None, k=(1,), measures=(), workers=0, batch_size=10, device="cpu")
    assert evaluate.measure(restored, args)["recall_at"] == {"1": 0.5}
    ((queries, labels, k, gallery, gallery_labels),) = asked
    assert (k, len(queries), len(gallery)) == ((1,), len(parts.test), len(parts.gallery))
    assert labels.tolist() == parts.test.labels.tolist()
    assert gallery_labels.tolist() == parts.gallery.labels.tolist()
    with torch.no_grad():
        first = restored.model(restored.input(parts.gallery.picture(0)))[0]
    torch.testing.assert_close(gallery[0], first, atol=1e-5, rtol=0)
    asked.clear()
    args.part = "train"
    evaluate.measure(restored, args)
    assert len(asked[0]) == 3  # the training images have no gallery


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--part", "validation"], "the run has no validation classes"),
        (["--data", "nowhere.npz"], "nowhere.npz does not exist"),
        (["--device", "abacus"], "--device abacus cannot be used"),
        (["--k", "0"], "0 is below 1"),
        (["--part", "rest"], "invalid choice: 'rest'"),
        (["--out", "no/such/folder/f.json"], "no/such/folder is no folder that may be written to"),
    ],
)
def test_what_is_refused(trained, capsys, arguments, words):
    status, _, err = command_here(capsys, "evaluate", trained, "--workers", 0, "--device", "cpu", *arguments)
    check_refused(status, err, words)


def test_a_file_is_not_overwritten_unasked(trained, tmp_path, capsys):
    (tmp_path / "f.json").write_text("precious")
    status, _, err = command_here(capsys, "evaluate", trained, *HERE, "--out", tmp_path / "f.json")
    check_refused(status, err, "f.json exists: give another name, or --overwrite")
    assert (tmp_path / "f.json").read_text() == "precious"
    assert command_here(capsys, "evaluate", trained, *HERE, "--out", tmp_path / "f.json", "--overwrite")[0] == 0
