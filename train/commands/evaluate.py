"""Recall@K of a trained network, on the part of its data set that it has not seen or another."""

from __future__ import annotations

import argparse
import json
from typing import Any

from torch.utils.data import DataLoader

from ..data import splits
from ..data.images import ImageSet
from ..errors import UserError
from ..evaluation import Searched, search
from ..experiment import pick_device
from ..files import replacing
from ..interrupt import Interrupt
from ..options.values import MEASURES, ks, measures
from ..output.report import per_cent
from ..restore import Restored, restore
from . import shared

PARTS = ("test", "validation", "train")


def parser() -> argparse.ArgumentParser:
    p = shared.parser("evaluate.py", "Measure Recall@K of a trained network on a part of the data set of its run.")
    p.add_argument("--data", metavar="PATH", help="where the data set lies (default: where the run found it)")
    p.add_argument("--part", choices=PARTS, default="test", help="default: test, the unseen classes")
    p.add_argument("--k", type=ks, metavar="K[,K]", help="the K of Recall@K (default: those of the run)")
    p.add_argument(
        "--measures", type=measures, default=(), metavar="NAME[,NAME]",
        help=f"others, too, of {', '.join(MEASURES)} (default: none)",
    )  # fmt: skip
    shared.add_out(p, required=False, text="write the figures to a file, too, as JSON")
    shared.add_machine(p)
    return p


def run(args: argparse.Namespace) -> None:
    if args.out:
        shared.require_new(args.out, args.overwrite)
    restored = restore(args.checkpoint, pick_device(args))
    figures = measure(restored, args)
    others = "".join(f"  {name} {100 * figures[name]:.1f}" for name in args.measures)
    print(f"{restored.path}, epoch {restored.epoch}, {args.part}: {per_cent(figures['recall_at'])}{others}")
    if args.out:
        with replacing(args.out) as file:
            file.write((json.dumps(figures, indent=2) + "\n").encode())


def measure(restored: Restored, args: argparse.Namespace) -> dict[str, Any]:
    parts = splits.of_options(restored.config, args.workers, args.data)
    images = getattr(parts, args.part)
    if images is None:
        raise UserError(f"--part {args.part}: the run has no {args.part} classes")

    def loader(part: ImageSet) -> DataLoader:
        part.transform = restored.transform
        return shared.loader(part, args)

    gallery = parts.gallery if args.part == "test" else None
    searched = Searched(loader(images), None if gallery is None else loader(gallery))
    with Interrupt() as interrupt:
        ks = args.k or tuple(restored.config["k"])
        found = search(restored.model, searched, ks, restored.device, "none", interrupt)
    if not found.recall:
        raise UserError(f"{restored.path} gives embeddings that are not finite")
    return {
        "checkpoint": str(restored.path),
        "epoch": restored.epoch,
        "part": args.part,
        "images": len(images),
        "classes": len(images.names),
        "recall_at": found.recall,
        **found.others(args.measures),
    }
