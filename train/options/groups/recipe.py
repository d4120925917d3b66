"""How the parameters move."""

from __future__ import annotations

import argparse

from ..recipes import FINE_TUNING, FROM_SCRATCH
from ..values import at_least, not_negative, positive, share, steps


def add(g: argparse._ArgumentGroup) -> None:
    def either(name: str) -> str:
        return f"default: {FROM_SCRATCH[name]} from random weights, {FINE_TUNING[name]} from pretrained ones"

    g.add_argument("--epochs", type=at_least(0), metavar="N", help=either("epochs"))
    g.add_argument("--optimizer", choices=("adamw", "adam", "sgd"), default="adamw", help="default: adamw")
    g.add_argument("--momentum", type=share, default=0.9, metavar="M", help="of sgd (default: 0.9)")
    g.add_argument("--lr", type=positive, metavar="LR", help=f"{either('lr')}; 3e-5 for sop")
    g.add_argument(
        "--schedule", choices=("step", "cosine"), default="step",
        help="of the learning rate: --lr-step, or to 0 along half a cosine (default: step)",
    )  # fmt: skip
    g.add_argument(
        "--lr-step", type=steps, metavar="N|N,N,...",
        help=f"multiply the learning rate by --lr-gamma every N epochs, or after these; 0: never; {either('lr_step')}",
    )  # fmt: skip
    g.add_argument(
        "--lr-gamma", type=positive, metavar="G", help="default: 0.5, contrastive 0.1; 0.25 for sop and inshop"
    )
    g.add_argument("--weight-decay", type=not_negative, default=1e-4, metavar="WD", help="default: 1e-4")
    g.add_argument(
        "--head-lr-factor", type=positive, default=1.0, metavar="F",
        help="learning rate of the head over that of the backbone (default: 1)",
    )  # fmt: skip
    g.add_argument(
        "--proxy-lr-factor", type=positive, metavar="F",
        help=f"learning rate of the proxies over that of the backbone; {either('proxy_lr_factor')}",
    )  # fmt: skip
    g.add_argument(
        "--clip-grad-value", type=not_negative, default=10.0, metavar="C",
        help="clip each entry of the gradient, 0: do not (default: 10)",
    )  # fmt: skip
    g.add_argument(
        "--clip-grad-norm", type=not_negative, default=0.0, metavar="C",
        help="clip the norm of the whole gradient, 0: do not (default: 0)",
    )  # fmt: skip
    g.add_argument(
        "--warmup-epochs", type=at_least(0), metavar="N",
        help=f"first epochs in which only the head and the proxies learn; {either('warmup_epochs')}",
    )  # fmt: skip
    g.add_argument(
        "--ema", type=share, default=0.0, metavar="DECAY",
        help="evaluate an exponential moving average of the weights, e.g. 0.999; 0: the weights (default: 0)",
    )  # fmt: skip
