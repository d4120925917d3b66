"""What the command lines of embed, evaluate and export share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..interrupt import ignore_in_worker
from ..options.arguments import OneLineParser
from ..options.values import at_least


def parser(program: str, description: str) -> argparse.ArgumentParser:
    p = OneLineParser(prog=program, description=description)
    p.add_argument("checkpoint", metavar="RUN", type=Path, help="the folder of a run of run.py, or its checkpoint")
    return p


def add_out(p: argparse.ArgumentParser, required: bool, text: str) -> None:
    p.add_argument("--out", type=Path, required=required, metavar="PATH", help=text)
    p.add_argument("--overwrite", action="store_true", help="replace what is at PATH")


def add_machine(p: argparse.ArgumentParser) -> None:
    p.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    p.add_argument("--batch-size", type=at_least(1), default=100, metavar="N", help="default: 100")
    p.add_argument(
        "--workers", type=at_least(0), default=min(8, os.cpu_count() or 1), metavar="N",
        help="processes that load images (default: one per core, up to 8)",
    )  # fmt: skip


def loader(images: Dataset, args: argparse.Namespace) -> DataLoader:
    return DataLoader(
        images,
        batch_size=args.batch_size,
        num_workers=args.workers,
        worker_init_fn=ignore_in_worker,
        pin_memory=torch.device(args.device).type == "cuda",
    )


def require_new(path: Path, overwrite: bool) -> None:
    """Before a long computation, not after it."""
    if path.exists() and not overwrite:
        raise UserError(f"--out {path} exists: give another name, or --overwrite to replace it")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"--out {path} cannot be written: {path.parent} is no folder that may be written to")
