"""How the parameters move: AdamW, its parameter groups, the learning rate over the epochs, what is frozen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import Diverged

if TYPE_CHECKING:  # the recipe itself needs no torchvision
    from ..model.network import EmbeddingModel


def make_optimizer(
    model: EmbeddingModel, criterion: nn.Module, lr: float, weight_decay: float, proxy_lr_factor: float
) -> torch.optim.AdamW:
    groups = [
        {"name": "backbone", "params": list(model.backbone.parameters()), "factor": 1.0},
        {"name": "head", "params": list(model.head.parameters()), "factor": 1.0},
        {"name": "proxies", "params": list(criterion.parameters()), "factor": proxy_lr_factor},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, weight_decay=weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
        if group["lr"] > torch.finfo(torch.float32).max:
            raise Diverged(f"the learning rate of the {group['name']} became {group['lr']:.3g}: lower it")


def learning_rate(epoch: int, lr: float, step: int, gamma: float) -> float:
    """`lr`, times `gamma` after every `step` epochs; a step of 0 keeps it."""
    try:
        return lr * gamma ** (epoch // step) if step else lr
    except OverflowError:
        return math.inf


def prepare_epoch(model: EmbeddingModel, epoch: int, warmup_epochs: int, freeze_bn: bool) -> None:
    """Training mode, with only the head and the proxies learning in the first epochs."""
    model.train()
    model.backbone.requires_grad_(epoch >= warmup_epochs)
    if freeze_bn:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
