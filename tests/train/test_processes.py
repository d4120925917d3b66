"""Two processes, as torchrun starts them, train as one does on whole batches."""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial

import pytest
import torch
import torch.multiprocessing

from tests.train.runs import assert_same_state, check_same, finish, free_port, start, start_together

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")


def options(archive, out, *more):
    return (
        "--dataset", "npz", "--data", archive, "--mix", "feature,embed", "--batch-size", 20, "--epochs", 2,
        "--freeze-bn", "--device", "cpu", "--threads", 1, "--deterministic", "--out", out, *more,
    )  # fmt: skip


def finish_together(*arguments):
    """Two processes, which end well; what the first one prints."""
    ended = [finish(process) for process in start_together(2, *arguments)]
    assert [(status, err) for status, _, err in ended] == [(0, "")] * 2
    assert ended[1][1] == ""  # the first one talks
    return ended[0][1]


MEMORY = ("--mix", "embed", "--memory-size", 40, "--memory-start", 1)


@pytest.mark.parametrize(
    ("more", "of_two"),
    [((), ()), ((), ("--micro-batch", 4)), (MEMORY, ())],
    ids=["whole", "micro-batches", "memory"],
)
def test_two_processes_are_one(archive, tmp_path, more, of_two):
    assert finish(start(*options(archive, tmp_path / "one", *more)))[0] == 0
    finish_together(*options(archive, tmp_path / "two", *more, *of_two))
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


def test_two_processes_go_on(archive, tmp_path):
    """With a memory, an average of the weights and running statistics, which are of the images of each."""
    arguments = (*MEMORY, "--ema", 0.5, "--no-freeze-bn")
    finish_together(*options(archive, tmp_path / "whole", *arguments, "--epochs", 3))
    finish_together(*options(archive, tmp_path / "parts", *arguments, "--epochs", 1))
    told = finish_together(*options(archive, tmp_path / "parts", *arguments, "--epochs", 3, "--resume"))
    assert "goes on after epoch 1" in told
    check_same(tmp_path / "parts", tmp_path / "whole")


def is_rank(rank, port):
    """Makes this process one of two, as torchrun does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}


def run_and_keep(rank, folder, port, arguments):
    """In a process of its own; what it has learnt goes into the folder."""
    from train import experiment
    from train.main import main

    is_rank(rank, port)
    made, build = [], experiment.build
    experiment.build = lambda *given: made.append(build(*given)) or made[0]
    assert main([str(argument) for argument in arguments]) == 0
    torch.save(made[0].learner.state(), folder / f"{rank}.pt")


@pytest.mark.parametrize("more", [(), ("--ema", 0.5)], ids=["weights", "average"])
def test_both_processes_have_learnt_the_same(archive, tmp_path, more):
    """Running statistics too: those of the network and, where there is one, of its average."""
    given = options(archive, tmp_path / "run", *MEMORY, "--no-freeze-bn", *more)
    torch.multiprocessing.spawn(run_and_keep, (tmp_path, free_port(), given), nprocs=2)
    stored = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    for rank in range(2):
        assert_same_state(torch.load(tmp_path / f"{rank}.pt", weights_only=True), stored)


def test_a_process_that_dies_ends_the_run(archive, tmp_path):
    first, second = start_together(2, *options(archive, tmp_path / "run", "--epochs", 500))
    while not first.stdout.readline().startswith("epoch"):
        pass
    second.kill()
    status, _, err = finish(first)
    second.communicate()
    assert status == 2
    assert "does not hear from the others" in err
    assert err.count("\n") == 1
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def raises(step, images, labels):
    raise ArithmeticError("of this process alone")


FAILURES = {
    "raises": (raises, (2, None), "rank 0 of 2 does not hear from the others"),
    "labels": (lambda step, images, labels: step(images, labels[1:]), (2, None), "rank 1 has refused its arguments"),
    "not a number": (lambda step, images, labels: step(images * torch.nan, labels), (1, 1), "the loss became nan"),
}


def run_and_fail(rank, folder, port, arguments, failure):
    """The second process fails so in the middle of its second batch; status and stderr go into the folder."""
    from train.main import main
    from train.training.step import Step

    is_rank(rank, port)
    loss, calls = Step._loss, []

    def failing(self, images, labels):
        calls.append(images)
        if rank == 0 or len(calls) < 2:
            return loss(self, images, labels)
        return FAILURES[failure][0](partial(loss, self), images, labels)

    Step._loss = failing
    with open(folder / f"{rank}.err", "w") as sys.stderr:
        try:
            status = main([str(argument) for argument in arguments])
        except (ArithmeticError, ValueError):
            status = None
    (folder / f"{rank}.json").write_text(json.dumps(status))


@pytest.mark.parametrize("failure", FAILURES)
def test_a_process_that_fails_ends_the_run(archive, tmp_path, failure):
    given = options(archive, tmp_path / "run", "--epochs", 30)
    torch.multiprocessing.spawn(run_and_fail, (tmp_path, free_port(), given, failure), nprocs=2)
    _, statuses, words = FAILURES[failure]
    assert tuple(json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)) == statuses
    err = (tmp_path / "0.err").read_text()
    assert words in err
    assert err.count("\n") == 1


def test_a_damaged_image_of_one_process_ends_the_run(folder, tmp_path):
    """It is named by the process that has met it; the other one waits for that in vain."""
    shutil.copytree(folder, tmp_path / "set")
    damaged = next((tmp_path / "set" / "class111").rglob("*.png"))
    damaged.write_bytes(damaged.read_bytes()[:300])
    given = ("--dataset", "folder", "--data", tmp_path / "set", "--split", "order", "--arch", "small", "--workers", 0)
    ended = [finish(process) for process in start_together(2, *options("", tmp_path / "run", *given))]
    assert [status for status, _, _ in ended] == [2, 2]
    told = sorted(err for _, _, err in ended)
    assert all(err.count("\n") == 1 for err in told)
    assert f"{damaged.name} cannot be read as an image" in told[0]
    assert "does not hear from the others" in told[1]


def test_what_the_first_process_refuses_ends_the_run(archive, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    first, second = (finish(process) for process in start_together(2, *options(archive, tmp_path)))
    assert (first[0], second[0]) == (2, 2)
    assert "holds another run" in first[2]
    assert "does not hear from the others" in second[2]
    assert first[2].count("\n") == second[2].count("\n") == 1
