"""The command line of draw.py."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from ..commands.shared import add_out, require_new
from ..errors import UserError
from ..main import require_packages, status_of
from ..options.arguments import OneLineParser
from ..options.values import at_least
from .baselines import baselines
from .packages import fetch
from .store import summary, write

SETS = ("icons", "characters")


def main(arguments: list[str] | None = None) -> int:
    """The exit status, with one line on stderr for whatever ends it early."""

    def work() -> None:
        require_packages()
        run(parser().parse_args(arguments))

    return status_of("draw.py", work)


def parser() -> argparse.ArgumentParser:
    p = OneLineParser(prog="draw.py", description="Draw a data set for --dataset npz from packages of artwork.")
    p.add_argument("set", choices=SETS, metavar="SET", help=f"{' or '.join(SETS)}, of docs/datasets.md")
    add_out(p, required=True, text="an .npz file; what it is made of is written beside it as .json")
    p.add_argument(
        "--packages", type=Path, metavar="DIR",
        help="where the packages lie, and are put by npm if they do not (default: packages, beside PATH)",
    )  # fmt: skip
    p.add_argument(
        "--measure", type=at_least(32), metavar="SIZE",
        help="also print what pixels, and a frozen efficientnet-lite0 with ImageNet weights at SIZE pixels, find",
    )  # fmt: skip
    return p


def run(args: argparse.Namespace) -> None:
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out} is no .npz file: give it that ending")
    require_new(args.out, args.overwrite)
    made = import_module(f"{__package__}.{args.set}")
    folder = args.packages or args.out.parent / "packages"
    fetch(made.PACKAGES, folder)
    drawn = made.draw(folder)
    if not drawn.classes:
        raise UserError(f"no class has enough drawings in {folder}: remove its packages, to fetch them anew")
    print(f"{args.out}: {summary(write(args.out, drawn))}")
    if args.measure:
        print(baselines(args.out, args.measure))
