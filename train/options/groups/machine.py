"""The run itself: where it is written, and what it runs on."""

from __future__ import annotations

import argparse
import os

from ..values import SEED, between, loggers

MOST_AT_ONCE = 16 * (os.cpu_count() or 1)
threads = between(1, MOST_AT_ONCE, "16 for each core of this machine; more only wait for one another")
workers = between(0, MOST_AT_ONCE, "16 for each core of this machine; more only wait for one another")


def add(g: argparse._ArgumentGroup) -> None:
    g.add_argument("--config", metavar="FILE", help="options from a TOML file, e.g. config.toml of another run")
    g.add_argument(
        "--preset", metavar="TABLE/DATASET/METHOD",
        help="the options of a row of the paper's Tables 2, 3, 4, 6 or 7, e.g. table2/cub200/ms+metrix; --preset list "
        "prints all names",
    )  # fmt: skip
    g.add_argument(
        "--out", metavar="DIR",
        help="a folder that holds no other run (default: runs/latest; a run there moves to runs/latest-1, ...)",
    )  # fmt: skip
    g.add_argument("--overwrite", action="store_true", help="replace a run that the folder holds")
    g.add_argument(
        "--resume", action="store_true",
        help="go on with the run in --out, whose options are taken; without one there begin it",
    )  # fmt: skip
    g.add_argument("--seed", type=SEED, default=0, metavar="S", help="default: 0")
    g.add_argument(
        "--deterministic", action="store_true",
        help="the same figures in every run on the same machine; no times in metrics.jsonl",
    )  # fmt: skip
    g.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    g.add_argument("--threads", type=threads, metavar="N", help="threads of the CPU (default: all cores)")
    g.add_argument(
        "--workers", type=workers, metavar="N",
        help="processes that load images (default: 0 for glyphs and npz on a CPU, else up to 8)",
    )  # fmt: skip
    g.add_argument(
        "--log", type=loggers, default=(), metavar="NAME[,NAME]",
        help="tensorboard, wandb, where they are installed, beside metrics.jsonl (default: none)",
    )  # fmt: skip
    g.add_argument("--wandb-project", default="metrix", metavar="NAME", help="of --log wandb (default: metrix)")
