"""One epoch of training."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from .criterion import mixing_arguments
from .errors import Diverged
from .interrupt import Interrupt
from .model import EmbeddingModel


def train_epoch(
    model: EmbeddingModel,
    loss: nn.Module,
    criterion: nn.Module,
    mix: Sequence[str],
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    *,
    device: torch.device,
    amp: bool,
    clip_grad_value: float,
    interrupt: Interrupt,
    title: str,
) -> dict[str, float]:
    """Mean over the batches of the whole loss and, with mixup, of its clean and its mixed part.

    `criterion` is `loss` itself, or the mixup around it.
    """
    sums = {"loss": 0.0, "clean": 0.0}
    bar = tqdm(loader, desc=title, leave=False, disable=not sys.stderr.isatty())
    for images, labels in bar:
        interrupt.check()
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            features = model.backbone(images)
            embeddings = model.head(features)
            total = criterion(embeddings, labels, **mixing_arguments(mix, model, images, features))
        with torch.no_grad():
            clean = loss(embeddings, labels).item() if mix else total.item()
        value = total.item()
        if not math.isfinite(value):
            raise Diverged(f"the loss became {value} in {title}: try a lower --lr or more --warmup-epochs")
        optimizer.zero_grad()
        total.backward()
        if clip_grad_value:
            for group in optimizer.param_groups:
                nn.utils.clip_grad_value_(group["params"], clip_grad_value)
        optimizer.step()
        sums["loss"] += value
        sums["clean"] += clean
        bar.set_postfix(loss=f"{value:.4f}")
    means = {name: total / len(loader) for name, total in sums.items()}
    return {**means, "mixed": means["loss"] - means["clean"]} if mix else {"loss": means["loss"]}
