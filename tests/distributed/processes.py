"""What several processes compute, each on its own part of a batch, and what one process does on the whole of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import metrix_ext as mx

CLASSES, CHANNELS, SIZE, SIDE = 5, 7, 6, 3
LOSSES = {
    "ms": lambda: mx.losses.MultiSimilarityLoss(beta=3.0, gamma=5.0),
    "contrastive": mx.losses.ContrastiveLoss,
    "pa": lambda: mx.losses.ProxyAnchorLoss(CLASSES, SIZE, beta=4.0, gamma=4.0),
    "proxynca++": lambda: mx.losses.ProxyNCAPlusPlusLoss(CLASSES, SIZE),
}
MIXES = {
    "ms": ("none", "embed", "feature", "input"),
    "contrastive": ("none", "embed", "feature"),
    "pa": ("none", "embed", "feature"),
    "proxynca++": ("none", "embed"),  # proxies cannot be mixed with maps
}
CASES = [
    (loss, mix, pairs)
    for loss, mixes in MIXES.items()
    for mix in mixes
    for pairs in ("pos-neg", "pos-pos")
    if pairs == "pos-neg" or mix in ("embed", "feature")
]
RAGGED = {1: (13,), 2: (9, 4), 4: (6, 1, 0, 6)}


class Network(nn.Module):
    """A backbone that gives feature maps, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, CHANNELS, 1)
        self.head = mx.heads.PoolingHead(CHANNELS, SIZE)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


class Objective(nn.Module):
    """A network and what is minimised: the loss is the output, so that DistributedDataParallel sees all of it."""

    def __init__(self, criterion: nn.Module, mix: str) -> None:
        super().__init__()
        self.network, self.criterion, self.mix = Network(), criterion, mix

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        features = self.network.backbone(images)
        sources: dict[str, dict[str, Any]] = {
            "feature": {"source": features, "encode": self.network.head},
            "input": {"source": images, "encode": self.network},
        }
        loss: Tensor = self.criterion(self.network.head(features), labels, **sources.get(self.mix, {}))
        return loss


def objective(loss: str, mix: str, pairs: str, is_global: bool) -> Objective:
    """The same numbers in every process."""
    torch.manual_seed(3)
    criterion: nn.Module = LOSSES[loss]()
    if mix != "none":
        criterion = mx.Metrix(criterion, mix=mix, pairs=pairs, strength=0.7, hard_negatives="all")
    return Objective(mx.distributed.GlobalBatch(criterion) if is_global else criterion, mix).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    n = sum(RAGGED[1])
    images = torch.randn(n, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (n,), generator=generator)


def results(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss and the gradients of all parameters."""
    torch.manual_seed(11)  # of lambda; other ranks than the first have another
    if dist.is_initialized() and dist.get_rank() > 0:
        torch.manual_seed(12 + dist.get_rank())
    loss = model(images, labels)
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def run(rank: int, folder: Path, sizes: Sequence[int], wrapped: bool) -> None:
    """Writes the results of every case, after the gradients have been averaged by DDP or by hand."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(sizes))
    try:
        found = {}
        images, labels = (part.split(list(sizes))[rank] for part in batch())
        for loss, mix, pairs in CASES:
            model = objective(loss, mix, pairs, is_global=True)
            outer = DistributedDataParallel(model) if wrapped else model
            loss_and_gradients = results(outer, images, labels)
            if not wrapped:
                mx.grad_cache.average_gradients(list(model.parameters()))
                loss_and_gradients = [
                    loss_and_gradients[0],
                    *(p.grad for p in model.parameters() if p.grad is not None),
                ]
            found[loss, mix, pairs] = loss_and_gradients
        torch.save(found, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def run_and_die(rank: int, folder: Path) -> None:
    """Rank 1 ends before the loss; rank 0 writes what it is told."""
    import datetime

    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=20),
    )
    criterion = mx.distributed.GlobalBatch(mx.losses.MultiSimilarityLoss())
    x = torch.randn(4, 3, requires_grad=True)
    if rank == 1:
        return
    try:
        criterion(x, torch.tensor([0, 0, 1, 1]))
    except RuntimeError as error:
        (folder / "message").write_text(str(error))


def run_and_refuse(rank: int, folder: Path) -> None:
    """Rank 1 gives labels of another length; both write what they are told."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    criterion = mx.distributed.GlobalBatch(mx.losses.MultiSimilarityLoss())
    try:
        criterion(torch.randn(4, 3), torch.arange(4 if rank == 0 else 3))
    except (RuntimeError, ValueError) as error:
        (folder / f"message{rank}").write_text(f"{type(error).__name__}: {error}")
