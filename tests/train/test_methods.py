"""Runs of one epoch by other losses of mixes, and without unit norm."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from tests.train.runs import SHORT, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train import restore


def test_embeddings_that_are_not_normalised(archive, tmp_path, capsys):
    """Learnt as they are, and found again by a restored network; feature mixup encodes its mixes with that head."""
    out = tmp_path / "run"
    given = (
        "--dataset",
        "npz",
        "--data",
        archive,
        "--epochs",
        1,
        "--batch-size",
        20,
        "--no-normalize",
        "--mix",
        "feature",
        "--out",
        out,
    )
    assert run_here(capsys, *SHORT, *given)[0] == 0
    found = restore.restore(out, torch.device("cpu"))
    image = found.input(Image.new("RGB", (32, 32), "red"))
    assert abs(float(found.model(image).detach().norm()) - 1) > 0.01


@pytest.mark.parametrize(
    "more",
    [
        ("--mixed-margins", "1,0.5"),
        ("--strength", "balanced", "--gradient-share", 0.2),
        ("--mixed-loss", "ms", "--mixed-loss-option", "beta=4", "--mixed-loss-option", "gamma=4"),
    ],
)
def test_other_mixed_terms(archive, tmp_path, capsys, more):
    """They change what is learnt, and the options of the run say so."""
    losses = set()
    for number, options in enumerate(((), more)):
        out = tmp_path / str(number)
        given = (
            "--dataset",
            "npz",
            "--data",
            archive,
            "--epochs",
            1,
            "--batch-size",
            20,
            "--mix",
            "embed",
            "--out",
            out,
            *options,
        )
        assert run_here(capsys, *SHORT, *given)[0] == 0
        losses.add(json.loads((out / "metrics.jsonl").read_text())["loss"])
    assert len(losses) == 2
    assert f"{more[0].removeprefix('--').replace('-', '_')} = " in (out / "config.toml").read_text()
