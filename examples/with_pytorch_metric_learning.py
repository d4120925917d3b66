"""Metrix inside what pytorch-metric-learning wraps around a loss: a memory, views without labels, several processes.

    pip install 'metrix_ext[pytorch-metric-learning]'
    python examples/with_pytorch_metric_learning.py
    torchrun --nproc-per-node 2 examples/with_pytorch_metric_learning.py

Each criterion trains a network on half of the classes of a made data set; Recall@1 is that of the other half, before
and after.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from pytorch_metric_learning.losses import CrossBatchMemory, MultipleLosses, SelfSupervisedLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import metrix_ext as mx
from metrix_ext.pytorch_metric_learning import MetricLossFunction

CLASSES, EXAMPLES_PER_CLASS = 40, 16
INPUTS, RELEVANT, EMBEDDING_SIZE = 64, 8, 16


def made_data() -> Tensor:
    """[classes, examples, inputs]: classes differ in a few directions; the others are louder and say nothing."""
    relevant = torch.randn(CLASSES, 1, RELEVANT) + 0.3 * torch.randn(CLASSES, EXAMPLES_PER_CLASS, RELEVANT)
    irrelevant = 2 * torch.randn(CLASSES, EXAMPLES_PER_CLASS, INPUTS - RELEVANT)
    directions = torch.linalg.qr(torch.randn(INPUTS, INPUTS)).Q
    return torch.cat((relevant, irrelevant), dim=2) @ directions


def draw(data: Tensor, classes: int, examples: int) -> tuple[Tensor, Tensor]:
    """Some examples [classes, examples, inputs] of some classes, and which classes these are."""
    chosen = torch.randperm(len(data))[:classes]
    return data[chosen][:, torch.randperm(data.shape[1])[:examples]], chosen


def loss_of_step(criterion: nn.Module, network: nn.Module, data: Tensor) -> Tensor:
    loss: Tensor
    if isinstance(criterion, SelfSupervisedLoss):  # two views of every object, and no labels
        one, other = draw(data, len(data), 2)[0].unbind(1)
        loss = criterion(network(one), network(other))
    else:
        inputs, classes = draw(data, 10, 4)
        loss = criterion(network(inputs.flatten(0, 1)), classes.repeat_interleave(4))
    return loss


def criteria(processes: int) -> dict[str, nn.Module]:
    def metrix() -> MetricLossFunction:
        return MetricLossFunction(mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="embed"))

    if processes > 1:
        memory = CrossBatchMemory(metrix(), EMBEDDING_SIZE, memory_size=320)
        return {
            "DistributedLossWrapper": DistributedLossWrapper(metrix(), efficient=True),
            "DistributedLossWrapper, CrossBatchMemory": DistributedLossWrapper(memory),
        }
    proxies = MetricLossFunction(mx.Metrix(mx.losses.ProxyAnchorLoss(CLASSES // 2, EMBEDDING_SIZE), mix="embed"))
    return {
        "CrossBatchMemory": CrossBatchMemory(metrix(), EMBEDDING_SIZE, memory_size=320),
        "MultipleLosses, a miner, proxies": MultipleLosses(
            [metrix(), proxies], miners=[MultiSimilarityMiner(), None], weights=[1.0, 0.01]
        ),
        "SelfSupervisedLoss": SelfSupervisedLoss(metrix()),
    }


def recall_at_1(network: nn.Module, data: Tensor) -> float:
    labels = torch.arange(len(data)).repeat_interleave(data.shape[1])
    with torch.no_grad():
        return mx.retrieval.recall_at_k(network(data.flatten(0, 1)), labels, k=(1,))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    steps = parser.parse_args().steps
    processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if processes > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    data = made_data()
    train, test = data.chunk(2)
    for name, criterion in criteria(processes).items():
        torch.manual_seed(1)
        network: nn.Module = nn.Linear(INPUTS, EMBEDDING_SIZE)
        before = recall_at_1(network, test)
        trained = DistributedDataParallel(network) if processes > 1 else network
        torch.manual_seed(2 + rank)  # every process draws other examples
        proxies = {"params": list(criterion.parameters()), "lr": 0.1}
        optimizer = torch.optim.Adam([{"params": network.parameters()}, proxies], lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of_step(criterion, trained, train).backward()
            optimizer.step()
        if rank == 0:
            print(f"{name}: Recall@1 {before:.3f} -> {recall_at_1(network, test):.3f}", flush=True)
    if processes > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
