"""The options of run.py. Those without a default here get theirs in defaults.py."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..data.registry import DATA_SETS
from ..errors import UserError
from .defaults import FINE_TUNING, FROM_SCRATCH
from .values import (
    LOSSES,
    PAIRS,
    alpha,
    assignment,
    at_least,
    between,
    hard_negatives,
    interpolation,
    ks,
    mixes,
    not_negative,
    pair_sets,
    positive,
    strength,
)

seed = between(0, 2**32 - 1, "numpy's generators take seeds of 32 bits")
image_size = between(16, 4096, "a batch of larger images fits into no memory")
batch_size = between(2, 2**20, "a batch is in memory as a whole")
images_per_class = between(0, 1024, "a batch is in memory as a whole")
embedding_size = between(1, 2**16, "a head to longer ones takes gigabytes")
MOST_AT_ONCE = 16 * (os.cpu_count() or 1)
threads = between(1, MOST_AT_ONCE, "16 for each core of this machine; more only wait for one another")
workers = between(0, MOST_AT_ONCE, "16 for each core of this machine; more only wait for one another")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    return parser().parse_args(arguments)


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message} (--help lists the options)")


def parser() -> argparse.ArgumentParser:
    p = OneLineParser(
        prog="run.py",
        description="Train an embedding with a metric-learning loss, with or without mixup, and measure "
        "Recall@K on classes it has not seen. Without --dataset it runs on characters drawn with typefaces "
        "of matplotlib.",
        epilog="Exit status: 0 the run finished; 1 the loss diverged; 2 arguments or data need a change; "
        "130 or 143 stopped by Ctrl-C or SIGTERM, with the checkpoint written.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=100),
    )
    _add_loss(p.add_argument_group("loss and mixup"))
    _add_data(p.add_argument_group("data"))
    _add_model(p.add_argument_group("network"))
    _add_recipe(p.add_argument_group("recipe"))
    _add_machine(p.add_argument_group("run"))
    return p


def _add_loss(g: argparse._ArgumentGroup) -> None:
    g.add_argument("--loss", choices=LOSSES, default="ms", help="default: ms (multi-similarity)")
    g.add_argument(
        "--loss-option", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        help="a keyword argument of the loss, e.g. margin=0.5; may be given several times",
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
        "--strength", type=strength, metavar="W|NAME=W,...",
        help="weight of the mixed loss, one or by set of pairs (default: pos-neg=0.4,anc-neg=0.3)",
    )  # fmt: skip
    g.add_argument(
        "--lam", type=interpolation, default="pair", metavar="pair|batch|NUMBER",
        help="one lambda per pair of examples, one per batch, or a constant (default: pair)",
    )  # fmt: skip
    g.add_argument("--alpha", type=alpha, default=2.0, help="lambda ~ Beta(alpha, alpha) (default: 2)")
    g.add_argument(
        "--hard-negatives", type=hard_negatives, metavar="K|all",
        help="mix only the K most similar negatives of each anchor (default: all; 3 for input mixup)",
    )  # fmt: skip
    g.add_argument("--renormalize", action="store_true", help="embedding mixup: give mixed embeddings unit norm again")


def _add_data(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--dataset", choices=tuple(DATA_SETS), default="glyphs",
        help="; ".join(f"{name}: {data_set.help}" for name, data_set in DATA_SETS.items()) + " (default: glyphs)",
    )  # fmt: skip
    g.add_argument("--data", metavar="PATH", help="where the data set lies")
    g.add_argument(
        "--split-seed", type=seed, default=0, metavar="S",
        help="which classes are trained on and which are unseen (default: 0)",
    )  # fmt: skip
    g.add_argument(
        "--image-size", type=image_size, metavar="PIXELS",
        help="default: 32 for --arch small; else 64 for glyphs, 224 for photographs",
    )  # fmt: skip
    g.add_argument("--batch-size", type=batch_size, default=100, metavar="N", help="default: 100")
    g.add_argument(
        "--images-per-class", type=images_per_class, default=5, metavar="N",
        help="a batch has N images of each of its classes; 0: any images (default: 5)",
    )  # fmt: skip
    g.add_argument(
        "--skip-damaged", action="store_true",
        help="decode every image before the run, and leave out those that cannot be (default: the first one ends it)",
    )  # fmt: skip


def _add_model(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--arch", choices=("small", "resnet18", "resnet34", "resnet50", "resnet101"),
        help="default: resnet50 on a GPU and for --dataset folder; else small, a ResNet for small images "
        "on a CPU",
    )  # fmt: skip
    g.add_argument(
        "--weights", metavar="none|imagenet|PATH",
        help="first weights of the backbone: random, torchvision's (downloaded once), or a state dict "
        "(default: imagenet for photographs on a ResNet, else none)",
    )  # fmt: skip
    g.add_argument("--embedding-size", type=embedding_size, metavar="D", help="default: 128 for small, else 512")
    g.add_argument("--pool", choices=("avg", "max", "avg+max"), default="avg+max", help="default: avg+max")


def _add_recipe(g: argparse._ArgumentGroup) -> None:
    def either(name: str) -> str:
        return f"default: {FROM_SCRATCH[name]} from random weights, {FINE_TUNING[name]} from pretrained ones"

    g.add_argument("--epochs", type=at_least(0), metavar="N", help=either("epochs"))
    g.add_argument("--lr", type=positive, metavar="LR", help=f"of AdamW; {either('lr')}")
    g.add_argument(
        "--lr-step", type=at_least(0), metavar="N",
        help=f"multiply the learning rate by --lr-gamma every N epochs, 0: never; {either('lr_step')}",
    )  # fmt: skip
    g.add_argument("--lr-gamma", type=positive, metavar="G", help="default: 0.5, contrastive 0.1")
    g.add_argument("--weight-decay", type=not_negative, default=1e-4, metavar="WD", help="of AdamW (default: 1e-4)")
    g.add_argument(
        "--proxy-lr-factor", type=positive, metavar="F",
        help=f"learning rate of the proxies over that of the rest; {either('proxy_lr_factor')}",
    )  # fmt: skip
    g.add_argument(
        "--clip-grad-value", type=not_negative, default=10.0, metavar="C",
        help="clip each entry of the gradient, 0: do not (default: 10)",
    )  # fmt: skip
    g.add_argument(
        "--warmup-epochs", type=at_least(0), metavar="N",
        help=f"first epochs in which only the head and the proxies learn; {either('warmup_epochs')}",
    )  # fmt: skip
    g.add_argument(
        "--freeze-bn", action=argparse.BooleanOptionalAction,
        help="keep the batch-norm statistics of the first weights (default: with pretrained weights)",
    )  # fmt: skip


def _add_machine(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--out", metavar="DIR",
        help="a folder that holds no other run (default: runs/latest; a run there moves to runs/latest-1, ...)",
    )  # fmt: skip
    g.add_argument("--overwrite", action="store_true", help="replace a run that the folder holds")
    g.add_argument("--seed", type=seed, default=0, metavar="S", help="default: 0")
    g.add_argument("--k", type=ks, default=(1, 2, 4, 8), metavar="K[,K]", help="the K of Recall@K (default: 1,2,4,8)")
    g.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    g.add_argument("--amp", action="store_true", help="run the network in bfloat16, the loss in float32")
    g.add_argument("--threads", type=threads, metavar="N", help="threads of the CPU (default: all cores)")
    g.add_argument(
        "--workers", type=workers, metavar="N",
        help="processes that load images (default: 0 for glyphs and npz on a CPU, else up to 8)",
    )  # fmt: skip
