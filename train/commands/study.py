"""Many short training runs from one file, and the tables that compare them."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..options.arguments import OneLineParser
from ..options.values import at_least
from ..studies import grid, prefix, results
from ..studies.setting import Setting


def parser() -> argparse.ArgumentParser:
    p = OneLineParser(
        prog="study.py",
        description="Run all settings of a TOML file (its form: train/studies/grid.py), each on a core; started "
        "again, it goes on. With --report it compares what one or several folders hold.",
    )
    p.add_argument("grid", nargs="?", type=Path, metavar="GRID.toml", help="the settings")
    p.add_argument("--out", type=Path, metavar="DIR", help="where results.jsonl is written, or the tables of --report")
    p.add_argument("--data", type=Path, metavar="DIR", default=Path(), help="where the data sets of the grid lie")
    p.add_argument(
        "--cache", type=Path, metavar="DIR", help="for what frozen networks give (default: DIR/cache of --out)"
    )
    p.add_argument(
        "--workers", type=at_least(1), default=os.cpu_count() or 1, metavar="N", help="default: one per core"
    )
    p.add_argument("--part", type=part, default=(1, 1), metavar="I/N", help="every Nth setting from the Ith on")
    p.add_argument("--report", type=Path, nargs="+", metavar="DIR", help="compare the runs in these folders")
    return p


def part(text: str) -> tuple[int, int]:
    which, _, of = text.partition("/")
    found = at_least(1)(which), at_least(1)(of)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not one part of several, such as 1/4")
    return found


def run(args: argparse.Namespace) -> None:
    if args.out is None:
        raise UserError("--out is missing: the folder of the study")
    if args.report:
        from ..studies import tables

        tables.write(results.rows(args.report), args.out)
        return
    if args.grid is None:
        raise UserError("give the TOML file of a study, or --report with folders of some")
    settings = [located(setting, args.data) for setting in grid.read(args.grid)][args.part[0] - 1 :: args.part[1]]
    cache = args.cache or args.out / "cache"
    frozen = {(s.data, s.trained, s.image_size, s.flips) for s in settings if s.trained != "scratch"}
    for data, trained, image_size, flips in sorted(frozen):
        prefix.maps(Path(data), trained, image_size, cache, flips)
    for line in results.compute(settings, args.out, cache, args.workers):
        print(line, flush=True)


def located(setting: Setting, folder: Path) -> Setting:
    path = folder / setting.data
    if not path.is_file():
        raise UserError(f"{path} does not exist: --data says where the data sets of the grid lie")
    return replace(setting, data=str(path))
