"""What an epoch trains with: its learning rate, and what of the network is frozen."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..model import batch_norm
from . import schedules

if TYPE_CHECKING:  # the recipe itself needs no torchvision
    from ..model.network import EmbeddingModel


def learning_rate(args: argparse.Namespace, epoch: int) -> float:
    """Of the backbone in an epoch, which is counted from 0."""
    if args.schedule == "cosine":
        return args.lr * schedules.cosine(epoch, args.epochs)
    if isinstance(args.lr_step, int):
        return args.lr * schedules.step(epoch, args.lr_step, args.lr_gamma)
    return args.lr * schedules.multi_step(epoch, args.lr_step, args.lr_gamma)


def prepare_epoch(model: EmbeddingModel, epoch: int, warmup_epochs: int, freeze_bn: bool) -> None:
    """Training mode, with only the head and the proxies learning in the first epochs."""
    model.train()
    model.backbone.requires_grad_(epoch >= warmup_epochs)
    if freeze_bn:
        batch_norm.freeze(model)
