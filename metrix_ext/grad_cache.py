"""Gradients of a large batch in micro-batches: gradient caching (Gao et al. 2021, arXiv:2101.06983).

A loss over pairs is not the sum of the losses of parts of its batch, so gradients of micro-batches cannot just be
added. But with embeddings z = f(x) of the whole batch the chain rule is a sum over examples,

    dL/dtheta = sum_i (dz_i/dtheta)^T dL/dz_i,

and dL/dz_i needs all embeddings, but no activations of the network. So the network runs twice: without a graph for the
embeddings of all, then, once the gradients of the loss for them are known, with a graph for one micro-batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .batch.recompute import RandomState, recomputed, unchanged_buffers
from .distributed.ranks import Ranks
from .metrix import Metrix
from .ops.autocast import without_autocast, without_autocast_cache
from .terms.checks import check_whole


class GradCache:
    """A training step whose memory is that of a micro-batch, and whose gradients are those of the whole batch.

    What is kept of the whole batch are its embeddings or, if the criterion mixes features, its last feature maps; the
    head then runs once, on all of them. A batch that fits into a micro-batch runs once, in one piece. Input mixup
    encodes the mixes, too, a micro-batch at a time, and that three times.

    - Dropout and whatever else draws from torch's generators draws the same in both passes.
    - Under torch.autocast the passes and the loss run in its types, and backward outside it.
    - Batch norm in training mode normalises by the micro-batch, so that the result is that of the whole batch only
      where it is frozen (``eval``). Running statistics move in the first pass only, once per micro-batch.
    - The criterion is called once a step, with all embeddings. What needs them, as a miner does, belongs into it.
    - Several processes: leave the modules without DistributedDataParallel, give a criterion that sees the batches of
      all processes, and call ``average_gradients`` after the step. Processes may differ in their numbers of
      micro-batches.

    Args:
        criterion: called as ``criterion(embeddings, labels, **arguments)``, a loss or Metrix, or a module around one.
        backbone: from images to embeddings, or with ``head`` to the last feature map, example by example.
        head: from the feature map to embeddings. Feature mixup needs it.
        micro_batch: the most images that are in the network at a time.
        scaler: a torch.amp.GradScaler. Gradients are then of the scaled loss, as its ``step`` expects.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        criterion: nn.Module,
        backbone: nn.Module,
        head: nn.Module | None = None,
        micro_batch: int = 100,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        _check_module("criterion", criterion)
        _check_module("backbone", backbone)
        if head is not None:
            _check_module("head", head)
        if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
            raise TypeError(f"scaler: got {type(scaler).__name__}, expected a torch.amp.GradScaler")
        self.criterion = criterion
        self.micro_batch = check_whole("micro_batch", micro_batch)
        self.scaler = scaler
        self.model = backbone if head is None else nn.Sequential(backbone, head)
        mixes = {mix for module in criterion.modules() if isinstance(module, Metrix) for mix in module.mix}
        if head is None and "feature" in mixes:
            raise ValueError("head: missing, mix='feature' needs it")
        encoders = {"feature": head, "input": _Recomputed(self.model, self.micro_batch)}
        self.encode = {mix: encoder for mix, encoder in encoders.items() if mix in mixes}
        # The network is cut where the gradients are kept: behind the backbone if its feature maps are mixed.
        self.before_cut, self.after_cut = (backbone, head) if "feature" in mixes else (self.model, None)

    def __call__(self, images: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
        """Adds the gradients of ``criterion`` to .grad of all parameters of backbone, head and criterion.

        Args:
            images: [n, ...], what the backbone takes.
            labels: [n] integers.
            arguments: of the criterion, but for source and encode of Metrix, which are given here.

        Returns:
            The loss of the whole batch, a scalar without a graph, not scaled.

        Raises:
            TypeError, ValueError: an argument is not as above, or not as the criterion takes.
        """
        if not isinstance(images, Tensor) or images.dim() == 0:
            got = "a scalar" if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"images: got {got}, expected a tensor [n, ...]")
        if given := {"source", "encode"} & arguments.keys():
            raise TypeError(f"{', '.join(sorted(given))}: given, but GradCache makes them of images, backbone and head")
        with without_autocast_cache(images.device):
            if len(images) <= self.micro_batch:
                return self._whole_batch(images, labels, arguments)
            return self._micro_batches(images, labels, arguments)

    def _whole_batch(self, images: Tensor, labels: Tensor, arguments: dict[str, Any]) -> Tensor:
        loss = self._loss(self._up_to_cut(images), images, labels, arguments)
        self._backward(loss)
        return loss.detach()

    def _micro_batches(self, images: Tensor, labels: Tensor, arguments: dict[str, Any]) -> Tensor:
        cut, states = self._first_pass(images)
        loss = self._loss(cut, images, labels, arguments)
        self._backward(loss)
        loss, gradient = loss.detach(), cut.grad
        del cut  # its feature maps are not needed any more, and may be gigabytes
        if gradient is not None:
            self._second_pass(images, states, gradient)
        return loss

    def _first_pass(self, images: Tensor) -> tuple[Tensor, list[RandomState]]:
        """What the network gives at the cut, a leaf, and the random numbers that each micro-batch begins with."""
        outputs, states = [], []
        with torch.no_grad():
            for x in images.split(self.micro_batch):
                states.append(RandomState.now(images.device))
                outputs.append(self._up_to_cut(x))
        learns = images.requires_grad or any(p.requires_grad for p in self.before_cut.parameters())
        return torch.cat(outputs).requires_grad_(learns), states

    def _second_pass(self, images: Tensor, states: list[RandomState], gradient: Tensor) -> None:
        """Every micro-batch again, with a graph, from its random numbers to its part of the gradient at the cut."""
        parts = zip(images.split(self.micro_batch), states, gradient.split(self.micro_batch), strict=True)
        after = RandomState.now(images.device)
        with unchanged_buffers(self.model):
            for x, state, part in parts:
                state.restore()
                output = self._up_to_cut(x)
                with without_autocast(images.device):
                    output.backward(part)
        after.restore()

    def _up_to_cut(self, images: Tensor) -> Tensor:
        output = self.before_cut(images)
        if not isinstance(output, Tensor):
            raise TypeError(f"backbone, head: returned {type(output).__name__}, expected a tensor [n, ...]")
        if output.dim() == 0 or len(output) != len(images):
            raise ValueError(f"backbone, head: returned {list(output.shape)}, expected {len(images)} rows as images")
        return output

    def _loss(self, cut: Tensor, images: Tensor, labels: Tensor, arguments: dict[str, Any]) -> Tensor:
        embeddings = cut if self.after_cut is None else self.after_cut(cut)
        if self.encode:
            sources = {"feature": cut, "input": images}
            arguments = {**arguments, "source": {mix: sources[mix] for mix in self.encode}, "encode": self.encode}
        return self.criterion(embeddings, labels, **arguments)

    def _backward(self, loss: Tensor) -> None:
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        with unchanged_buffers(self.model), without_autocast(loss.device):
            scaled.backward()


def average_gradients(parameters: Iterable[Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Sets .grad to its mean over the processes, as DistributedDataParallel does in backward.

    A parameter that is learnt and has no .grad counts as one with a gradient of 0. Parameters must be the same, and in
    the same order, on all processes.

    Args:
        parameters: of backbone, head and criterion.
        group: the processes; None are all.

    Raises:
        RuntimeError: another process is not heard from.
    """
    ranks = Ranks(group)
    gradients = []
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    with ranks.heard():
        sums = [dist.all_reduce(gradient, group=group, async_op=True) for gradient in gradients]
        for work, gradient in zip(sums, gradients, strict=True):
            work.wait()
            gradient.div_(ranks.count)


class _Recomputed(nn.Module):
    """A network that takes a micro-batch at a time and keeps no activations: backward computes them again."""

    def __init__(self, model: nn.Module, micro_batch: int) -> None:
        super().__init__()
        self.model, self.micro_batch = model, micro_batch

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([recomputed(self.model, x) for x in images.split(self.micro_batch)])


def _check_module(name: str, module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name}: got {type(module).__name__}, expected a torch.nn.Module")
    if any(isinstance(inner, DistributedDataParallel) for inner in module.modules()):
        raise ValueError(
            f"{name}: is a DistributedDataParallel, which would average the gradients of every micro-batch, expected "
            "the module in it: call grad_cache.average_gradients after the step"
        )
