"""The command line of run.py, and the defaults that depend on the data set, the machine and the network."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

from .errors import UserError

LOSSES = ("contrastive", "lifted", "binomial", "ms", "pa", "nca", "proxynca", "proxynca++")
MIXES = ("input", "feature", "embed")
PAIRS = ("pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos")

# The paper's recipe for photographs, which starts from ImageNet weights, with the choices of the released
# proxy-anchor code: batch-norm statistics frozen, only the head and the proxies in the first epoch.
FINE_TUNING = {
    "epochs": 100,
    "lr": 1e-4,
    "lr_step": 10,
    "warmup_epochs": 1,
    "freeze_bn": True,
    "proxy_lr_factor": 100.0,
}
# From random weights all similarities start near 0.98, as the features are positive, and have to spread
# before classes part. Tried with the multi-similarity loss and 256 channels, Recall@1: after 100 batches 14
# at 1e-3 and 31 at 3e-3; after 300 batches 66 at 3e-3, 65 with batch norm after the last feature map (34 with
# its average pool alone), 61 with 4 images of 25 classes instead of 5 of 20.
# The proxies need no larger steps than the rest then: a factor of 100 is 0.3 for AdamW, and they jump about.
FROM_SCRATCH = {
    "epochs": 16,
    "lr": 3e-3,
    "lr_step": 4,
    "warmup_epochs": 0,
    "freeze_bn": False,
    "proxy_lr_factor": 1.0,
}
# The paper's factors by loss; 0.5 for those it does not name.
LR_GAMMA = {"contrastive": 0.1}


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
    g.add_argument("--alpha", type=positive, default=2.0, help="lambda ~ Beta(alpha, alpha) (default: 2)")
    g.add_argument(
        "--hard-negatives", type=hard_negatives, metavar="K|all",
        help="mix only the K most similar negatives of each anchor (default: all; 3 for input mixup)",
    )  # fmt: skip
    g.add_argument(
        "--renormalize", action="store_true", help="embedding mixup: give mixed embeddings unit norm again"
    )


def _add_data(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--dataset", choices=("glyphs", "npz", "folder"), default="glyphs",
        help="glyphs: characters, no download; npz: --data FILE with x uint8 [n, h, w(, 3)] and y int [n]; "
        "folder: --data DIR with a folder of images per class (default: glyphs)",
    )  # fmt: skip
    g.add_argument("--data", metavar="PATH", help="where the data set lies")
    g.add_argument(
        "--split-seed", type=at_least(0), default=0, metavar="S",
        help="which classes are trained on and which are unseen (default: 0)",
    )  # fmt: skip
    g.add_argument(
        "--image-size", type=at_least(16), metavar="PIXELS",
        help="default: 32 for --arch small; else 64 for glyphs, 224 for photographs",
    )  # fmt: skip
    g.add_argument("--batch-size", type=at_least(2), default=100, metavar="N", help="default: 100")
    g.add_argument(
        "--images-per-class", type=at_least(0), default=5, metavar="N",
        help="a batch has N images of each of its classes; 0: any images (default: 5)",
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
    g.add_argument("--embedding-size", type=at_least(1), metavar="D", help="default: 128 for small, else 512")
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
    g.add_argument(
        "--weight-decay", type=not_negative, default=1e-4, metavar="WD", help="of AdamW (default: 1e-4)"
    )
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
    g.add_argument("--out", default="runs/latest", metavar="DIR", help="default: runs/latest")
    g.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="default: 0")
    g.add_argument(
        "--k", type=ks, default=(1, 2, 4, 8), metavar="K[,K]", help="the K of Recall@K (default: 1,2,4,8)"
    )
    g.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    g.add_argument("--amp", action="store_true", help="run the network in bfloat16, the loss in float32")
    g.add_argument("--threads", type=at_least(1), metavar="N", help="threads of the CPU (default: all cores)")
    g.add_argument(
        "--workers", type=at_least(0), metavar="N",
        help="processes that load images (default: 0 for glyphs and npz on a CPU, else up to 8)",
    )  # fmt: skip


def resolve(args: argparse.Namespace, device_type: str) -> None:
    """Fills in what was left open, and refuses what does not go together."""
    photographs = args.dataset != "glyphs"
    if args.dataset == "glyphs" and args.data is not None:
        raise UserError("--data goes with --dataset npz or --dataset folder; glyphs needs none")
    if args.arch is None:
        args.arch = "resnet50" if device_type != "cpu" or args.dataset == "folder" else "small"
    if args.weights is None:
        args.weights = "imagenet" if photographs and args.arch != "small" else "none"
    if args.arch == "small" and args.weights != "none":
        raise UserError("--weights goes with one of the ResNets: --arch small has no pretrained weights")
    if args.image_size is None:
        args.image_size = 32 if args.arch == "small" else 224 if photographs else 64
    if args.embedding_size is None:
        args.embedding_size = 128 if args.arch == "small" else 512
    for name, value in (FROM_SCRATCH if args.weights == "none" else FINE_TUNING).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.lr_gamma is None:
        args.lr_gamma = LR_GAMMA.get(args.loss, 0.5)
    if args.workers is None:
        light = args.dataset != "folder" and device_type == "cpu"
        args.workers = 0 if light else min(8, os.cpu_count() or 1)
    if args.images_per_class and args.batch_size % args.images_per_class:
        raise UserError(
            f"--batch-size {args.batch_size} is no multiple of --images-per-class {args.images_per_class}"
        )


def mixing_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of Metrix, less those that were left to its own defaults."""
    pairs = args.pairs
    if pairs is None and args.loss == "pa" and set(args.mix) != {"embed"}:
        pairs = ("pos-neg",)
    options = {
        "pairs": pairs,
        "strength": args.strength,
        "lam": args.lam,
        "alpha": args.alpha,
        "hard_negatives": args.hard_negatives,
        "renormalize": args.renormalize,
    }
    return {name: value for name, value in options.items() if value is not None}


def mixes(text: str) -> tuple[str, ...]:
    return () if text == "none" else names(text, MIXES, "none, ")


def pair_sets(text: str) -> tuple[str, ...]:
    return names(text, PAIRS)


def names(text: str, known: tuple[str, ...], also: str = "") -> tuple[str, ...]:
    given = tuple(text.split(","))
    if not set(given) <= set(known) or len(set(given)) < len(given):
        raise argparse.ArgumentTypeError(f"{text!r} is not of {also}{', '.join(known)}, each at most once")
    return given


def strength(text: str) -> float | dict[str, float]:
    if "=" not in text:
        return not_negative(text)
    parts = [part.partition("=") for part in text.split(",")]
    pair_sets(",".join(name for name, _, _ in parts))
    return {name: not_negative(value) for name, _, value in parts}


def hard_negatives(text: str) -> int | str:
    return text if text == "all" else at_least(1)(text)


def interpolation(text: str) -> str | float:
    if text in ("pair", "batch"):
        return text
    value = number(text, "pair, batch or a number from 0 to 1")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, float(value)
    except ValueError:
        return name, value


def ks(text: str) -> tuple[int, ...]:
    return tuple(at_least(1)(part) for part in text.split(","))


def at_least(lowest: int) -> Any:
    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{value} is below {lowest}")
        return value

    return integer


def positive(text: str) -> float:
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is not positive")
    return value


def not_negative(text: str) -> float:
    value = number(text, "a number")
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
