"""One batch: the loss and its gradients, at once or in micro-batches, then the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.losses import LossParts

from .criterion import mixing_arguments
from .learner import Learner

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """Of all steps of a run.

    mix: what is mixed. miner: from embeddings and labels to the indices of the pairs that count. amp: "none", "bf16" or
    "fp16". micro_batch: images in the network at a time; None: all. several: processes share every batch, whose loss is
    that of all of it.
    """

    mix: Sequence[str]
    miner: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None
    amp: str
    micro_batch: int | None
    clip_grad_value: float
    clip_grad_norm: float
    several: bool = False


class Observed(nn.Module):
    """A criterion that is given the pairs of a miner, and of which the last parts can be looked at."""

    def __init__(self, criterion: nn.Module, miner: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None) -> None:
        super().__init__()
        self.criterion = criterion
        self.miner = miner
        self.parts: LossParts | None = None

    def forward(self, embeddings: Tensor, labels: Tensor, **arguments: object) -> Tensor:
        if self.miner is not None:
            arguments["indices_tuple"] = self.miner(embeddings.detach().float(), labels)
        parts = self.criterion.parts(embeddings, labels, **arguments)
        self.parts = LossParts(*(None if part is None else part.detach() for part in parts))
        return parts.loss


class Step:
    """Of a learner with one criterion: its own, or the clean loss alone."""

    def __init__(self, learner: Learner, settings: Settings, with_mixing: bool) -> None:
        self.learner, self.settings = learner, settings
        self.mix = settings.mix if with_mixing else ()  # which may be () all the same
        self.criterion = Observed(learner.criterion if with_mixing else learner.loss, settings.miner)
        self.called: nn.Module = mx.distributed.GlobalBatch(self.criterion) if settings.several else self.criterion
        self.cached = None
        if settings.micro_batch is not None:
            model = learner.model
            self.cached = mx.GradCache(self.called, model.backbone, model.head, settings.micro_batch, learner.scaler)

    def __call__(self, images: Tensor, labels: Tensor) -> LossParts:
        """The parts of the loss before the step, on the device."""
        learner = self.learner
        learner.optimizer.zero_grad()
        with torch.autocast(images.device.type, AMP.get(self.settings.amp), enabled=self.settings.amp in AMP):
            loss = self.cached(images, labels) if self.cached is not None else self._loss(images, labels)
        if self.cached is None:
            learner.scaler.scale(loss).backward()
        self._update()
        assert self.criterion.parts is not None
        return self.criterion.parts

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        model = self.learner.model
        features = model.backbone(images)
        embeddings = model.head(features)
        return self.called(embeddings, labels, **mixing_arguments(self.mix, model, images, features))

    def _update(self) -> None:
        learner, settings = self.learner, self.settings
        # All groups at once: torch refuses to clip where there is no gradient, as in the backbone's while it warms up.
        parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]
        if settings.several:
            mx.grad_cache.average_gradients([p for p in parameters if p.requires_grad])
        learner.scaler.unscale_(learner.optimizer)
        if settings.clip_grad_value:
            nn.utils.clip_grad_value_(parameters, settings.clip_grad_value)
        if settings.clip_grad_norm:
            nn.utils.clip_grad_norm_(parameters, settings.clip_grad_norm)
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        if learner.average is not None:
            learner.average.update_parameters(learner.model)
