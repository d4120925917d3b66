"""Whole runs in a short form."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from tests.train.runs import SHORT, finish, run_here, start

pytest.importorskip("matplotlib")

from train import options
from train.experiment import make_learner
from train.model import batch_norm


def test_a_short_run_learns_and_writes_everything(torchvision, cache, tmp_path):
    status, _, err = finish(start("--loss", "ms", "--mix", "embed", "--epochs", 1, "--out", tmp_path, *SHORT))
    assert (status, err) == (0, "")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["recall_at"]) == {"1", "2", "4", "8"}
    assert summary["recall_at"]["1"] > summary["recall_at_start"]["1"] + 0.05
    assert 0.05 < summary["recall_at_1_raw_pixels"] < 0.3
    assert summary["config"]["loss"] == "ms"
    assert summary["config"]["lr"] == 3e-3
    assert summary["dataset"]["test_classes"] >= 200
    assert summary["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]

    epochs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1]
    assert epochs[-1]["recall_at"] == summary["recall_at"]
    for epoch in epochs:
        assert epoch["loss"] == pytest.approx(epoch["clean"] + epoch["mixed"])
        assert epoch["mixed"] > 0

    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert stored["epoch"] == 1
    assert stored["config"] == summary["config"]
    assert sum(v.numel() for k, v in stored["model"].items() if "linear.weight" in k) == 128 * 128
    assert len(stored["optimizer"]["state"]) > 0
    for name in ("retrieval.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert len(picture.convert("RGB").getcolors(maxcolors=10**6) or []) > 50


def test_layers_of_the_network_and_of_its_average_are_synchronised(torchvision):
    args = options.parse(["--sync-bn", "--ema", "0.9", "--arch", "small"])
    options.resolve(args, "cuda", processes=2)
    learner = make_learner(args, torch.device("cpu"), num_classes=3)
    for network in (learner.model, learner.evaluated):
        layers = list(batch_norm.layers(network))
        assert layers and all(isinstance(layer, torch.nn.SyncBatchNorm) for layer in layers)


def test_equal_seeds_give_equal_figures(torchvision, archive, tmp_path, capsys):
    def figures(name, seed):
        status, err = run_here(
            capsys, "--dataset", "npz", "--data", archive, "--mix", "feature", "--epochs", 1,
            "--batch-size", 20, "--device", "cpu", "--threads", 1, "--seed", seed, "--out", tmp_path / name,
        )  # fmt: skip
        assert (status, err) == (0, "")
        (line,) = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return {k: v for k, v in json.loads(line).items() if k != "seconds"}

    first = figures("first", 5)
    assert figures("again", 5) == first
    assert figures("other", 6)["loss"] != first["loss"]


def test_a_folder_with_workers(torchvision, folder, tmp_path, capsys):
    status, err = run_here(
        capsys, "--dataset", "folder", "--data", folder, "--arch", "small", "--epochs", 1, "--batch-size", 20,
        "--device", "cpu", "--workers", 1, "--k", "1,3", "--out", tmp_path,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert set(json.loads((tmp_path / "summary.json").read_text())["recall_at"]) == {"1", "3"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_ends_a_run_with_one_line(torchvision, damaged_folder, tmp_path, capsys, workers):
    status, err = run_here(
        capsys, "--dataset", "folder", "--data", damaged_folder, "--arch", "small", "--batch-size", 20,
        "--device", "cpu", "--workers", workers, "--out", tmp_path,
    )  # fmt: skip
    assert status == 2
    assert err.count("\n") == 1
    assert ".png cannot be read as an image" in err
    assert not (tmp_path / "summary.json").exists()


def test_a_loss_that_is_no_number_ends_the_run(torchvision, archive, tmp_path, capsys):
    status, err = run_here(
        capsys, "--dataset", "npz", "--data", archive, "--batch-size", 20, "--lr", 1e30,
        "--clip-grad-value", 0, "--epochs", 30, "--device", "cpu", "--out", tmp_path,
    )  # fmt: skip
    assert status == 1
    assert err.count("\n") == 1
    assert "try a lower --lr" in err
    assert not (tmp_path / "summary.json").exists()


LOSSES_AND_MIXES = [
    *((loss, "embed") for loss in options.LOSSES),
    *(("ms", mix) for mix in ("input", "feature", "input,feature,embed")),
    ("pa", "feature"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "mix"), LOSSES_AND_MIXES)
def test_every_loss_and_every_mix_learns(torchvision, cache, tmp_path, loss, mix):
    # Proxies take a few epochs to spread, and ProxyNCA has no scale: its exponents stay within -1 and 1.
    epochs = {"pa": 8, "proxynca++": 8, "proxynca": 12}.get(loss, 3)
    status, _, err = finish(
        start("--loss", loss, "--mix", mix, "--epochs", epochs, "--out", tmp_path, *SHORT), timeout=1800
    )
    assert (status, err) == (0, "")
    summary = json.loads((tmp_path / "summary.json").read_text())
    # A draw of 2,470 queries is uncertain by 0.004.
    assert summary["recall_at"]["1"] > summary["recall_at_start"]["1"] + 0.05
