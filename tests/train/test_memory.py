"""--memory-size: a batch is compared with the last embeddings, in a run that goes on as well."""

from __future__ import annotations

import pytest
import torch

from tests.train.runs import check_refused, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

GIVEN = ("--batch-size", 20, "--device", "cpu", "--threads", 1, "--deterministic", "--memory-start", 2)


def given(archive, out, *more):
    return ("--dataset", "npz", "--data", archive, *GIVEN, "--out", out, *more)


@pytest.mark.parametrize("mix", ["none", "embed"])
def test_a_run_with_a_memory_goes_on_with_what_it_remembers(archive, tmp_path, capsys, mix):
    options = ("--mix", mix, "--memory-size", 40, "--epochs", 3)
    assert run_here(capsys, *given(archive, tmp_path / "whole", *options)) == (0, "")
    assert run_here(capsys, *given(archive, tmp_path / "parts", *options[:-1], 1)) == (0, "")
    assert run_here(capsys, *given(archive, tmp_path / "parts", *options, "--resume")) == (0, "")
    whole, parts = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts"))
    assert int(whole["criterion"]["filled"]) == 40
    torch.testing.assert_close(parts["model"], whole["model"], rtol=0, atol=0)
    torch.testing.assert_close(parts["criterion"], whole["criterion"], rtol=0, atol=0)
    lines = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "parts")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--memory-size", 10), "--memory-size 10 is less than a batch of 20"),
        (("--memory-size", 40, "--mix", "feature"), "which only --mix embed or none can use"),
        (("--memory-size", 40, "--loss", "proxynca"), "has nothing to remember"),
        (("--memory-size", 40, "--miner", "ms"), "goes with neither --miner"),
    ],
)
def test_what_does_not_go_with_a_memory(archive, tmp_path, capsys, more, words):
    check_refused(*run_here(capsys, *given(archive, tmp_path, *more)), words)
