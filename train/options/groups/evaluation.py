"""What is measured, and when."""

from __future__ import annotations

import argparse

from ..values import MEASURES, at_least, ks, measures


def add(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--k", type=ks, metavar="K[,K]",
        help="the K of Recall@K (default: 1,2,4,8; 1,10,100,1000 for sop; 1,10,20,30,40,50 for inshop)",
    )  # fmt: skip
    g.add_argument(
        "--measures", type=measures, default=(), metavar="NAME[,NAME]",
        help=f"others of the final model, of {', '.join(MEASURES)} (default: none)",
    )  # fmt: skip
    g.add_argument(
        "--eval-every", type=at_least(1), default=1, metavar="N",
        help="evaluate every N epochs, and after the last one (default: 1)",
    )  # fmt: skip
