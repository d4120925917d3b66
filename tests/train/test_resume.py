"""A run that is stopped, killed or damaged, and goes on, is the run that was left alone."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest

from tests.train.runs import check_refused, check_same, finish, run_here, start

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

GIVEN = ("--batch-size", 20, "--device", "cpu", "--threads", 1, "--deterministic", "--mix", "feature,embed")


def options(archive, out, *more):
    return ("--dataset", "npz", "--data", archive, "--epochs", 4, *GIVEN, "--out", out, *more)


@pytest.fixture(scope="module")
def uninterrupted(archive, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(*options(archive, out)))[0] == 0
    return out


def test_two_runs_have_the_same_figures(uninterrupted, archive, tmp_path):
    assert finish(start(*options(archive, tmp_path / "run")))[0] == 0
    check_same(tmp_path / "run", uninterrupted)


def test_a_run_killed_at_random_moments(uninterrupted, archive, tmp_path):
    """SIGKILL, while it trains, evaluates or writes; and SIGTERM, between two batches of an epoch."""
    dice = random.Random(1)
    out = tmp_path / "run"
    for kill in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        process = start(*options(archive, out, "--resume"))
        before = len(lines(out))
        while process.poll() is None and len(lines(out)) == before and not first_is_known(process):
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.4))
        process.send_signal(kill)
        process.communicate()
    status, _, err = finish(start(*options(archive, out, "--resume")))
    assert (status, err) == (0, "")
    check_same(out, uninterrupted)


@pytest.mark.parametrize("at", [1, 3])
def test_a_signal_while_an_epoch_is_measured(uninterrupted, archive, tmp_path, capsys, monkeypatch, at):
    """The epoch is trained then, and is neither lost nor trained twice."""
    from train import experiment
    from train.errors import Interrupted

    measure, calls = experiment.measure, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 1 + at:  # the first one is of the untrained network
            raise Interrupted("stopped", signal.SIGTERM)
        return measure(*given)

    monkeypatch.setattr(experiment, "measure", interrupted)
    assert run_here(capsys, *options(archive, tmp_path))[0] == 143
    monkeypatch.undo()
    assert len(lines(tmp_path)) == at - 1
    assert run_here(capsys, *options(archive, tmp_path, "--resume")) == (0, "")
    check_same(tmp_path, uninterrupted)


def lines(out):
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def first_is_known(process):
    """Whether the run says that it has begun to train, or has gone on."""
    return process.stdout.readline().startswith(("untrained", "goes on"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(uninterrupted, archive, tmp_path, capsys):
    assert run_here(capsys, *options(archive, tmp_path, "--epochs", 2)) == (0, "")
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    status, err = run_here(capsys, *options(archive, tmp_path, "--resume"))
    assert status == 0
    assert "checkpoint.pt" in err
    assert err.count("\n") == 1
    check_same(tmp_path, uninterrupted)


def test_more_epochs_go_on_and_other_options_are_refused(archive, tmp_path, capsys):
    assert run_here(capsys, *options(archive, tmp_path, "--epochs", 1)) == (0, "")
    status, err = run_here(capsys, *options(archive, tmp_path, "--resume", "--lr", 0.5, "--epochs", 2))
    check_refused(status, err, "the run has other options (--lr was 0.003)")
    assert run_here(capsys, "--out", tmp_path, "--resume", "--epochs", 2) == (0, "")
    assert [json.loads(line)["epoch"] for line in lines(tmp_path)] == [1, 2]


def test_resume_without_a_run_begins_it_and_without_a_folder_is_refused(archive, tmp_path, capsys):
    status, err = run_here(capsys, "--dataset", "npz", "--data", archive, "--resume")
    check_refused(status, err, "--resume needs --out")
    assert run_here(capsys, *options(archive, tmp_path / "new", "--resume", "--epochs", 0)) == (0, "")


def test_the_options_of_a_run_are_accepted_again(uninterrupted, archive, tmp_path, capsys):
    config = uninterrupted / "config.toml"
    assert run_here(capsys, "--config", config, "--out", tmp_path / "again") == (0, "")
    check_same(tmp_path / "again", uninterrupted)
    assert (tmp_path / "again" / "config.toml").read_text() == config.read_text()
