"""One epoch of training."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import Diverged
from ..interrupt import Interrupt
from .criterion import mixing_arguments
from .learner import Learner


def train_epoch(
    learner: Learner,
    loader: DataLoader,
    mix: Sequence[str],
    *,
    device: torch.device,
    amp: bool,
    clip_grad_value: float,
    interrupt: Interrupt,
    title: str,
) -> dict[str, float]:
    """Mean over the batches of the whole loss and, with mixup, of its clean and its mixed part."""
    sums = {"loss": 0.0, "clean": 0.0}
    batches = interrupt.batches(loader)
    bar = tqdm(batches, total=len(loader), desc=title, leave=False, disable=not sys.stderr.isatty())
    for images, labels in bar:
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        total, clean = losses(learner, mix, images, labels, amp)
        value = total.item()
        if not math.isfinite(value):
            raise Diverged(f"the loss became {value} in {title}: try a lower --lr or more --warmup-epochs")
        step(learner.optimizer, total, clip_grad_value)
        sums["loss"] += value
        sums["clean"] += clean
        bar.set_postfix(loss=f"{value:.4f}")
    means = {name: total / len(loader) for name, total in sums.items()}
    return {**means, "mixed": means["loss"] - means["clean"]} if mix else {"loss": means["loss"]}


def losses(learner: Learner, mix: Sequence[str], images: Tensor, labels: Tensor, amp: bool) -> tuple[Tensor, float]:
    """The loss that is minimised, and the value of its clean part."""
    model = learner.model
    with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
        features = model.backbone(images)
        embeddings = model.head(features)
        total = learner.criterion(embeddings, labels, **mixing_arguments(mix, model, images, features))
    with torch.no_grad():
        clean = learner.loss(embeddings, labels).item() if mix else total.item()
    return total, clean


def step(optimizer: Optimizer, total: Tensor, clip_grad_value: float) -> None:
    optimizer.zero_grad()
    total.backward()
    if clip_grad_value:
        # All groups at once: torch refuses to clip where there is no gradient, as in the backbone's while it warms up.
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_value_(parameters, clip_grad_value)
    optimizer.step()
