"""Where images come from, and what a batch is."""

from __future__ import annotations

import argparse

from ...data.registry import DATA_SETS
from ..values import SEED, at_least, between, fraction

image_size = between(16, 4096, "a batch of larger images fits into no memory")
batch_size = between(2, 2**20, "a batch is in memory as a whole")
images_per_class = between(0, 1024, "a batch is in memory as a whole")


def add(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--dataset", choices=tuple(DATA_SETS), default="glyphs",
        help="; ".join(f"{name}: {data_set.help}" for name, data_set in DATA_SETS.items()) + " (default: glyphs)",
    )  # fmt: skip
    g.add_argument("--data", metavar="PATH", help="where the data set lies")
    g.add_argument(
        "--split", metavar="random|order|FILE",
        help="which classes are trained on: half of them drawn by --split-seed, the first half, or as a file says "
        "(default: as published; random for sets that have no published split)",
    )  # fmt: skip
    g.add_argument("--split-seed", type=SEED, default=0, metavar="S", help="of --split random (default: 0)")
    g.add_argument(
        "--val-fraction", type=fraction, default=0.0, metavar="F",
        help="share of the training classes to validate on instead; the summary has the epoch they choose (default: 0)",
    )  # fmt: skip
    g.add_argument(
        "--any-count", action="store_true", help="go on with another number of images or classes than was published"
    )
    g.add_argument(
        "--skip-damaged", action="store_true",
        help="decode every image before the run, and leave out those that cannot be (default: the first one ends it)",
    )  # fmt: skip
    g.add_argument(
        "--image-size", type=image_size, metavar="PIXELS",
        help="default: 32 for --arch small; else 64 for glyphs, and what the network was trained with, mostly 224, "
        "for photographs",
    )  # fmt: skip
    g.add_argument("--batch-size", type=batch_size, default=100, metavar="N", help="default: 100")
    g.add_argument(
        "--micro-batch", type=at_least(1), metavar="N",
        help="run the network on N images at a time; the loss is that of the whole batch (default: all)",
    )  # fmt: skip
    g.add_argument(
        "--images-per-class", type=images_per_class, metavar="N",
        help="a batch has N images of each of its classes; 0: any images (default: 5; 0 for cub200 and cars196)",
    )  # fmt: skip
