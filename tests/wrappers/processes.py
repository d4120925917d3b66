"""What two processes compute with DistributedLossWrapper, each on its own part of the batch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from pytorch_metric_learning.losses import CrossBatchMemory
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.pytorch_metric_learning import MetricLossFunction
from tests.memory.by_hand import LAM, STRENGTH
from tests.support.loss_cases import DIM, leaf
from tests.support.loss_tests import random_batch

PROCESSES = 2
PROXIES = random_batch(5, DIM, 9)[0]
Batch = tuple[Tensor, Tensor]


def batch() -> Batch:
    return random_batch(8, DIM, 3)


def criteria() -> dict[str, nn.Module]:
    multi_similarity, anchor = mx.losses.MultiSimilarityLoss(), mx.losses.ProxyAnchorLoss(5, DIM)
    anchor.proxies = nn.Parameter(PROXIES.clone())
    mixing = {"mix": "embed", "pairs": "anc-neg", "lam": LAM, "strength": STRENGTH}
    return {
        "loss": multi_similarity,
        "Metrix": mx.Metrix(multi_similarity, **mixing),
        "proxies": anchor,
        "Metrix, proxies": mx.Metrix(anchor, **mixing),
    }


def run(rank: int, folder: Path) -> None:
    """Writes for every criterion the value and the gradient of this rank's embeddings, in three ways."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    try:
        x, labels = (part.chunk(PROCESSES)[rank] for part in batch())
        taken = {}
        for name, criterion in criteria().items():
            adapted = MetricLossFunction(criterion)
            wrappers = {
                "all": DistributedLossWrapper(adapted),
                "efficient": DistributedLossWrapper(adapted, efficient=True),
                "memory": DistributedLossWrapper(CrossBatchMemory(adapted, DIM, 16)),
            }
            for way, wrapper in wrappers.items():
                own = leaf(x)
                value = wrapper(own, labels)
                taken[f"{name}, {way}"] = [value.detach(), *torch.autograd.grad(value, own)]
        torch.save(taken, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
