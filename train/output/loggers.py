"""Where the figures of an epoch go while a run is on: a progress bar, TensorBoard, Weights & Biases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from ..errors import UserError, one_line
from .lines import Line, flat

NAMES = ("tqdm", "tensorboard", "wandb")


class Logger(Protocol):
    def epoch(self, values: Line) -> None:
        """Takes a line of metrics.jsonl."""

    def close(self) -> None:
        """Writes what is still to be written; the logger is not used again."""


class Loggers:
    """Several as one; as a context manager it closes them in any case."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = loggers

    def epoch(self, values: Line) -> None:
        for logger in self.loggers:
            logger.epoch(values)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ProgressBar:
    """A bar of epochs with loss and Recall@K on stderr, if that is a terminal."""

    def __init__(self, epochs: int, done: int = 0) -> None:
        self.bar = tqdm(total=epochs, initial=done, desc="epochs", unit="epoch", disable=not sys.stderr.isatty())

    def epoch(self, values: Line) -> None:
        shown = {"loss": f"{values['loss']:.4f}"} if "loss" in values else {}
        recall = {f"R@{k}": f"{100 * value:.1f}" for k, value in values.get("recall_at", {}).items()}
        self.bar.set_postfix(shown | recall, refresh=False)
        self.bar.update(values["epoch"] - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class TensorBoard:
    """Writes folder/tensorboard. Of a run that goes on after `done` epochs, what was written of later ones is void."""

    def __init__(self, folder: Path, done: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing("tensorboard", error) from None
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def epoch(self, values: Line) -> None:
        for name, value in scalars(values).items():
            self.writer.add_scalar(name, value, values["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of that project. Its account, and whether anything is sent, are wandb's own settings (WANDB_MODE)."""

    def __init__(self, folder: Path, configuration: Mapping[str, Any], project: str = "metrix") -> None:
        try:
            import wandb
        except ImportError as error:
            raise missing("wandb", error) from None
        try:
            self.run = wandb.init(project=project, name=folder.resolve().name, dir=folder, config=dict(configuration))
        except Exception as error:  # no account, no network, a file that cannot be written: its own class for each
            raise UserError(f"wandb cannot begin a run ({one_line(error)}): try WANDB_MODE=offline") from None

    def epoch(self, values: Line) -> None:
        self.run.log(scalars(values), step=values["epoch"])

    def close(self) -> None:
        self.run.finish()


def open_loggers(
    names: Sequence[str],
    folder: Path,
    *,
    epochs: int,
    configuration: Mapping[str, Any],
    done: int = 0,
    project: str = "metrix",
) -> Loggers:
    """The loggers of these names.

    Args:
        names: some of NAMES.
        folder: of the run.
        epochs: of the whole run.
        configuration: the options of the run by name.
        done: epochs that a resumed run has behind it.
        project: of Weights & Biases.

    Raises:
        UserError: an unknown name, a package that is not installed, a service that does not answer.
    """
    makers: dict[str, Callable[[], Logger]] = {
        "tqdm": lambda: ProgressBar(epochs, done),
        "tensorboard": lambda: TensorBoard(folder, done),
        "wandb": lambda: WeightsAndBiases(folder, configuration, project),
    }
    if unknown := [name for name in names if name not in makers]:
        raise UserError(f"no logger is called {', '.join(unknown)}: expected some of {', '.join(NAMES)}")
    opened = Loggers([])
    try:
        for name in dict.fromkeys(names):
            opened.loggers = [*opened.loggers, makers[name]()]
    except UserError:
        opened.close()
        raise
    return opened


def scalars(values: Line) -> dict[str, float]:
    """The numbers of a line by name, "recall_at/1", less its epoch."""
    return {
        name: value
        for name, value in flat(values, separator="/")
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "epoch"
    }


def missing(package: str, error: ImportError) -> UserError:
    return UserError(f"{package} cannot be imported ({one_line(error)}): pip install 'metrix_ext[{package}]'")
