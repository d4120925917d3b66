"""The command line as a whole: a preset, a file and the options given, each before the next."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..errors import UserError
from . import config, foreign, presets
from .groups import data, evaluation, loss, machine, network, recipe


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """What is given on the command line goes before --config, and that before --preset."""
    given = foreign.translate(sys.argv[1:] if arguments is None else list(arguments))
    sources = _sources().parse_known_args(given)[0]
    if sources.resume:
        given = [*config.of_run(sources.out, parser()), *given]
    if sources.config is not None:
        given = [*config.read(sources.config, parser()), *given]
    if sources.preset is not None:
        given = [*presets.options(sources.preset), *given]
    return parser().parse_args(given)


def parser() -> argparse.ArgumentParser:
    p = OneLineParser(
        prog="run.py",
        description="Train an embedding with a metric-learning loss, with or without mixup, and measure "
        "Recall@K on classes it has not seen. Without --dataset it runs on characters drawn with typefaces "
        "of matplotlib.",
        epilog="Exit status: 0 the run finished; 1 the loss diverged; 2 arguments or data need a change; "
        "130 or 143 stopped by Ctrl-C or SIGTERM, with the checkpoint written.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=100),
        allow_abbrev=False,
    )
    loss.add(p.add_argument_group("loss and mixup"))
    data.add(p.add_argument_group("data"))
    network.add(p.add_argument_group("network"))
    recipe.add(p.add_argument_group("recipe"))
    evaluation.add(p.add_argument_group("evaluation"))
    machine.add(p.add_argument_group("run"))
    return p


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message} (--help lists the options)")


def _sources() -> argparse.ArgumentParser:
    """Of the options that name others."""
    p = OneLineParser(add_help=False, allow_abbrev=False)
    p.add_argument("--config")
    p.add_argument("--preset")
    p.add_argument("--out")
    p.add_argument("--resume", action="store_true")
    return p
