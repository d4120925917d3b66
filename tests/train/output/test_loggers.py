"""Progress bar, TensorBoard and Weights & Biases."""

from __future__ import annotations

import io
import os
import sys
import types

import pytest

pytest.importorskip("tqdm")

from train.errors import UserError
from train.output.loggers import Loggers, ProgressBar, TensorBoard, open_loggers, scalars

LINES = [
    {"epoch": epoch, "loss": 1 / epoch, "lr": 1e-4, "recall_at": {"1": 0.1 * epoch, "2": 0.2 * epoch}, "seconds": 3}
    for epoch in (1, 2, 3)
]


def open_in(folder, *names, **options):
    return open_loggers(names, folder, epochs=3, configuration={"loss": "ms"}, **options)


def test_the_numbers_of_a_line_have_flat_names():
    line = {"epoch": 3, "loss": 0.5, "recall_at": {"1": 0.25}, "skipped": 2, "note": "x", "best": True}
    assert scalars(line) == {"loss": 0.5, "recall_at/1": 0.25, "skipped": 2}


def test_a_bar_shows_the_last_epoch_on_a_terminal_and_nothing_elsewhere(monkeypatch):
    for terminal in (True, False):
        screen = io.StringIO()
        monkeypatch.setattr(screen, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        bar = ProgressBar(3, done=1)
        bar.bar.mininterval = 0
        for line in LINES[1:]:
            bar.epoch(line)
        bar.close()
        last = screen.getvalue().split("\r")[-1]
        assert ("3/3" in last and "loss=0.3333, R@1=30.0, R@2=60.0" in last) if terminal else last == ""


def written_scalars(folder, name):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_tensorboard_has_every_number_of_every_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    with open_in(tmp_path, "tensorboard") as loggers:
        for line in LINES[:2]:
            loggers.epoch(line)
        assert written_scalars(tmp_path, "loss") == pytest.approx({1: 1.0, 2: 0.5})  # of a run that goes on
        loggers.epoch(LINES[2])
    assert written_scalars(tmp_path, "recall_at/2") == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6})


def test_a_resumed_run_replaces_later_epochs_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    for done, lines, loss in ((0, LINES, 1.0), (1, LINES[1:2], 7.0)):
        logger = TensorBoard(tmp_path, done)
        for line in lines:
            logger.epoch({**line, "loss": loss})
        logger.close()
    assert written_scalars(tmp_path, "loss") == {1: 1.0, 2: 7.0}


class Calls:
    """Stands for the package wandb, and for its run."""

    def __init__(self, error=None):
        self.made, self.error = [], error

    def init(self, **given):
        if self.error:
            raise self.error
        self.made.append(("init", given))
        return self

    def log(self, values, step):
        self.made.append((step, values))

    def finish(self):
        self.made.append("finish")


def test_wandb_gets_the_options_and_every_number(tmp_path, monkeypatch):
    calls = Calls()
    monkeypatch.setitem(sys.modules, "wandb", calls)
    folder = tmp_path / "first run"
    with open_in(folder, "wandb", project="birds") as loggers:
        loggers.epoch(LINES[0])
    given = {"project": "birds", "name": "first run", "dir": folder, "config": {"loss": "ms"}}
    values = {"loss": 1.0, "lr": 1e-4, "recall_at/1": 0.1, "recall_at/2": 0.2, "seconds": 3}
    assert calls.made == [("init", given), (1, values), "finish"]


@pytest.mark.slow
def test_the_real_wandb_keeps_a_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    with open_in(tmp_path, "wandb") as loggers:
        for line in LINES:
            loggers.epoch(line)
    (stored,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"recall_at/1" in stored.read_bytes() and os.path.getsize(stored) > 500


def test_a_service_that_does_not_answer_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Calls(RuntimeError("no API key\nconfigured")))
    words = r"^wandb cannot begin a run \(no API key configured\): try WANDB_MODE=offline$"
    with pytest.raises(UserError, match=words):
        open_in(tmp_path, "wandb")


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_package_that_is_missing_is_named_with_its_extra(name, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"^{name} cannot be imported \(.+\): pip install 'metrix_ext\[{name}\]'$"):
        open_in(tmp_path, name)


def test_an_unknown_logger_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no logger is called mlflow: expected some of tqdm, tensorboard, wandb"):
        open_in(tmp_path, "tqdm", "mlflow")


def test_all_loggers_get_every_line_and_are_closed_whatever_happens():
    made = []

    def logger(name):
        return types.SimpleNamespace(epoch=lambda line: made.append((name, line)), close=lambda: made.append(name))

    def fail_after_an_epoch():
        with Loggers([logger("a"), logger("b")]) as both:
            both.epoch({"epoch": 1})
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_an_epoch()
    assert made == [("a", {"epoch": 1}), ("b", {"epoch": 1}), "a", "b"]


def test_those_already_open_are_closed_when_another_cannot_be_opened(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(ProgressBar, "close", lambda self: closed.append(self))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError):
        open_in(tmp_path, "tqdm", "wandb")
    assert len(closed) == 1
