"""One epoch of training, or what is left of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import torch
from tqdm import tqdm

from metrix_ext.losses import LossParts

from ..data.loaders import Loader
from ..errors import Diverged
from ..interrupt import Interrupt
from ..randomness import seed_step
from .learner import Learner
from .step import Step

LOOKED_AT_EVERY = 20  # batches: reading a value waits for the device


class Meter:
    """Sums of the parts of the loss over the batches of an epoch, on the device between two looks."""

    def __init__(self, sums: Mapping[str, float]) -> None:
        self.sums = dict(sums)
        self._since: list[LossParts] = []

    def add(self, parts: LossParts) -> None:
        self._since.append(parts)

    @property
    def is_due(self) -> bool:
        return len(self._since) >= LOOKED_AT_EVERY

    def look(self, title: str) -> float | None:
        """Adds what has come since; the last value of the whole loss. Raises Diverged if one is not a number."""
        if not self._since:
            return None
        names = [name for name, part in self._since[0]._asdict().items() if part is not None]
        looked_at = torch.stack([getattr(parts, name) for parts in self._since for name in names]).tolist()
        self._since.clear()
        for begin in range(0, len(looked_at), len(names)):
            values = dict(zip(names, looked_at[begin : begin + len(names)], strict=True))
            if not math.isfinite(values["loss"]):
                raise Diverged(f"the loss became {values['loss']} in {title}: try a lower --lr or more --warmup-epochs")
            for name, part in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + part
        return values["loss"]


def train_epoch(
    learner: Learner,
    step: Step,
    loader: Loader,
    *,
    seed: int,
    rank: int,
    device: torch.device,
    interrupt: Interrupt,
    title: str,
) -> dict[str, float]:
    """Mean over the batches of the whole loss and, with mixup, of its clean and its mixed part as it is added.

    The loader gives the batches from `learner.batch` on. What is interrupted leaves learner.batch and learner.sums as
    they are then.
    """
    meter = Meter(learner.sums)
    count = learner.batch + len(loader)
    bar = tqdm(
        interrupt.batches(loader), initial=learner.batch, total=count, desc=title, leave=False,
        disable=rank > 0 or not sys.stderr.isatty(),
    )  # fmt: skip
    try:
        for pixels, labels in bar:
            images = learner.model.statistics.to_input(pixels, device)
            labels = labels.to(device, non_blocking=True)
            seed_step(seed, learner.epoch, learner.batch, 1 + rank)
            meter.add(step(images, labels))
            learner.batch += 1
            if meter.is_due and (value := meter.look(title)) is not None:
                bar.set_postfix(loss=f"{value:.4f}")
    finally:
        meter.look(title)
        learner.sums = meter.sums
    means = {name: total / count for name, total in meter.sums.items()}
    learner.epoch, learner.batch, learner.sums = learner.epoch + 1, 0, {}
    if "mixed" not in means:
        return {"loss": means["loss"]}
    return {"loss": means["loss"], "clean": means["clean"], "mixed": means["loss"] - means["clean"]}
