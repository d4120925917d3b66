"""The loss, what it is given, and mixup."""

from __future__ import annotations

import argparse

from ..values import (
    LOSSES,
    MINERS,
    PAIRS,
    alpha,
    assignment,
    at_least,
    between,
    hard_negatives,
    interpolation,
    margins,
    mixes,
    not_negative,
    pair_sets,
    positive,
    strength,
)

memory_size = between(0, 2**24, "the memory is on the device as a whole")


def add(g: argparse._ArgumentGroup) -> None:
    g.add_argument("--loss", choices=LOSSES, default="ms", help="default: ms (multi-similarity)")
    g.add_argument(
        "--loss-option", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        help="a keyword argument of the loss, e.g. margin=0.5; may be given several times",
    )  # fmt: skip
    g.add_argument(
        "--miner", choices=("none", *MINERS), default="none",
        help="a miner of pytorch-metric-learning picks the pairs of a batch that count (default: none)",
    )  # fmt: skip
    g.add_argument("--miner-epsilon", type=not_negative, metavar="E", help="of --miner ms (default: 0.1)")
    g.add_argument(
        "--miner-option", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        help="a keyword argument of the miner; may be given several times",
    )  # fmt: skip
    g.add_argument(
        "--memory-size", type=memory_size, default=0, metavar="N",
        help="compare a batch with the last N embeddings, too (cross-batch memory; default: 0)",
    )  # fmt: skip
    g.add_argument(
        "--memory-start", type=at_least(0), default=1000, metavar="STEPS",
        help="batches before the memory is used: embeddings change fast at first (default: 1000)",
    )  # fmt: skip
    g.add_argument(
        "--mix", type=mixes, default=(), metavar="NAME[,NAME]",
        help="none, input, feature, embed, or several, of which each batch draws one (default: none)",
    )  # fmt: skip
    g.add_argument(
        "--pairs", type=pair_sets, metavar="NAME[,NAME]",
        help=f"sets of pairs to mix, of which each batch draws one: {', '.join(PAIRS)} "
        "(default: pos-neg,anc-neg; pos-neg where a proxy would have to be mixed with a feature)",
    )  # fmt: skip
    g.add_argument(
        "--strength", type=strength, metavar="W|NAME=W,...|balanced",
        help="weight of the mixed loss, one or by set of pairs, or set as training goes on so that its gradient is "
        "--gradient-share of the clean one's (default: pos-neg=0.4,anc-neg=0.3)",
    )  # fmt: skip
    g.add_argument(
        "--gradient-share", type=positive, default=0.5, metavar="S", help="of --strength balanced (default: 0.5)"
    )
    g.add_argument(
        "--mixed-margins", type=margins, metavar="M+,M-",
        help="the margin of a mix follows its label, from M- at 0 to M+ at 1, e.g. 1,0.5 (default: that of the loss)",
    )  # fmt: skip
    g.add_argument(
        "--mixed-loss", choices=LOSSES, help="the loss whose formula the mixed loss has (default: that of --loss)"
    )
    g.add_argument(
        "--mixed-loss-option", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        help="a keyword argument of --mixed-loss; may be given several times",
    )  # fmt: skip
    g.add_argument(
        "--lam", type=interpolation, default="pair", metavar="pair|batch|NUMBER",
        help="one lambda per pair of examples, one per batch, or a constant (default: pair)",
    )  # fmt: skip
    g.add_argument("--alpha", type=alpha, default=2.0, help="lambda ~ Beta(alpha, alpha) (default: 2)")
    g.add_argument(
        "--hard-negatives", type=hard_negatives, metavar="K|all|MIX=K,...",
        help="mix only the K most similar negatives of each anchor, one number or by mix (default: all; 3 for input)",
    )  # fmt: skip
    g.add_argument("--renormalize", action="store_true", help="embedding mixup: give mixed embeddings unit norm again")
    g.add_argument(
        "--mix-warmup-epochs", type=at_least(0), default=0, metavar="N",
        help="first epochs without mixing (default: 0)",
    )  # fmt: skip
