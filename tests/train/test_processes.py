"""Two processes, as torchrun starts them, train as one does on whole batches."""

from __future__ import annotations

import json
import socket

import pytest
import torch

from tests.train.runs import finish, start

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")


def started(count, *arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [{"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(count), **where} for r in range(count)]
    return [start(*arguments, **environment) for environment in ranks]


def options(archive, out, *more):
    return (
        "--dataset", "npz", "--data", archive, "--mix", "feature,embed", "--batch-size", 20, "--epochs", 2,
        "--freeze-bn", "--device", "cpu", "--threads", 1, "--deterministic", "--out", out, *more,
    )  # fmt: skip


@pytest.mark.parametrize("more", [(), ("--micro-batch", 4)], ids=["whole", "micro-batches"])
def test_two_processes_are_one(archive, tmp_path, more):
    assert finish(start(*options(archive, tmp_path / "one")))[0] == 0
    ended = [finish(process) for process in started(2, *options(archive, tmp_path / "two", *more))]
    assert [(status, err) for status, _, err in ended] == [(0, "")] * 2
    assert ended[1][1] == ""  # the first one talks
    runs = [tmp_path / "one", tmp_path / "two"]
    one, two = ([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs)
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "clean", "mixed"):
            assert b[name] == pytest.approx(a[name], rel=1e-4), name
    weights = [torch.load(run / "checkpoint.pt", weights_only=True)["model"] for run in runs]
    # AdamW's first steps are signs of gradients: where one is nearly 0, rounding decides.
    moved = torch.cat([(weights[0][name] - weights[1][name]).float().flatten() for name in weights[0]])
    assert moved.abs().mean() < 1e-4
    assert (runs[1] / "report.html").exists()


def test_a_process_that_dies_ends_the_run(archive, tmp_path):
    first, second = started(2, *options(archive, tmp_path / "run", "--epochs", 500))
    while not first.stdout.readline().startswith("epoch"):
        pass
    second.kill()
    status, _, err = finish(first)
    second.communicate()
    assert status == 2
    assert "does not hear from the others" in err
    assert err.count("\n") == 1
    assert (tmp_path / "run" / "checkpoint.pt").exists()
