"""The optimizer, with a group of parameters for each part that learns at a rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import Diverged

if TYPE_CHECKING:  # nothing here needs torchvision
    from ..model.network import EmbeddingModel

OPTIMIZERS = ("adamw", "adam", "sgd")


def parameter_groups(
    model: EmbeddingModel,
    criterion: nn.Module,
    *,
    learning_rate: float,
    head_factor: float = 1.0,
    proxy_factor: float = 1.0,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Those of "backbone", "head" and "proxies" (its "name"), the last one only where the criterion has any.

    Its "factor" is the learning rate of a group over that of the backbone; `set_learning_rate` keeps to it.
    """
    parts = (
        ("backbone", model.backbone, 1.0),
        ("head", model.head, head_factor),
        ("proxies", criterion, proxy_factor),
    )
    common = {"weight_decay": weight_decay}
    groups = [
        {"name": name, "params": list(part.parameters()), "lr": learning_rate * factor, "factor": factor, **common}
        for name, part, factor in parts
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(name: str, groups: Sequence[dict[str, Any]], *, momentum: float = 0.9) -> torch.optim.Optimizer:
    """name: "adamw", "adam" (weight decay as part of the gradient) or "sgd" (with momentum)."""
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name](groups)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Of each group, by its factor. Raises Diverged if one is larger than a float32 holds."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]
        if group["lr"] > torch.finfo(torch.float32).max:
            raise Diverged(f"the learning rate of the {group['name']} became {group['lr']:.3g}: lower it")
