"""What two processes compute with a memory, each on its own part of every batch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import metrix_ext as mx
from tests.memory.by_hand import LAM, STRENGTH
from tests.support.loss_cases import DIM, NUM_CLASSES
from tests.support.loss_tests import random_batch

PROCESSES = 2
MEMORY_SIZE = 11
SIZES = [(3, 3), (4, 1), (0, 5), (6, 4), (0, 0), (2, 3)]  # of the ranks, step by step
CRITERIA = {
    "ms": ("ms", None),
    "contrastive": ("contrastive-mean", None),
    "ms, anc-neg": ("ms", "anc-neg"),
    "ms, pos-neg": ("ms", "pos-neg"),
    "pa": ("pa", None),
    "pa, anc-neg": ("pa", "anc-neg"),
}
# A loss of these and the sets of pairs that are mixed, with lambdas that are drawn.
IN_GLOBAL_BATCH: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "ms": ("ms", None),
    "ms, mixed": ("ms", ("pos-neg", "anc-neg")),
    "contrastive": ("contrastive", None),
    "contrastive, mixed": ("contrastive", ("pos-neg", "anc-neg")),
    "pa": ("pa", None),
    "pa, mixed": ("pa", ("pos-neg", "anc-neg")),
}
RESUMED = 3
Part = list[Tensor]


def steps() -> list[tuple[Tensor, Tensor]]:
    """Examples of both ranks together, and their labels."""
    return [random_batch(sum(sizes), DIM, seed) for seed, sizes in enumerate(SIZES)]


def model() -> nn.Linear:
    linear = nn.Linear(DIM, DIM).double()
    with torch.no_grad():
        linear.weight.copy_(torch.eye(DIM) + 0.1 * torch.arange(DIM * DIM).reshape(DIM, DIM).sin())
        linear.bias.fill_(0.1)
    return linear


def criterion(name: str) -> nn.Module:
    loss, pairs = CRITERIA[name]
    made: nn.Module = {
        "ms": mx.losses.MultiSimilarityLoss(),
        "contrastive-mean": mx.losses.ContrastiveLoss(margin=0.1, aggregate="mean"),
        "pa": mx.losses.ProxyAnchorLoss(NUM_CLASSES, DIM),
    }[loss].double()
    for parameter in made.parameters():
        nn.init.constant_(parameter, 0.3).data.add_(torch.arange(parameter.numel()).reshape(parameter.shape).cos())
    return made if pairs is None else mx.Metrix(made, mix="embed", pairs=pairs, lam=LAM, strength=STRENGTH)


def run(rank: int, folder: Path, start: int) -> None:
    """Writes, for every criterion and step, the value, the mean gradients and the memory."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    try:
        torch.save({name: _steps_of(rank, name, start) for name in CRITERIA}, folder / f"{rank}.pt")
        torch.save(_of_whole_batches(), folder / f"whole{rank}.pt")
        torch.save({name: in_global_batch(name, rank) for name in IN_GLOBAL_BATCH}, folder / f"global{rank}.pt")
        torch.save(_refusal(rank), folder / f"refusal{rank}.pt")
    finally:
        dist.destroy_process_group()


def _steps_of(rank: int, name: str, start: int) -> list[dict[str, Tensor]]:
    trained = DistributedDataParallel(model())
    memory = mx.memory.CrossBatchMemory(criterion(name), DIM, MEMORY_SIZE, start=start)
    taken = []
    for (x, labels), sizes in zip(steps(), SIZES, strict=True):
        own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        trained.zero_grad()
        memory.zero_grad()
        value = memory(trained(x[own]), labels[own])
        value.backward()
        for parameter in memory.parameters():
            dist.all_reduce(parameter.grad.div_(PROCESSES))
        gradients = [parameter.grad.clone() for parameter in (*trained.parameters(), *memory.parameters())]
        state = {n: buffer.clone() for n, buffer in memory.named_buffers()}
        taken.append({"value": value.detach(), "gradients": gradients, "state": state})
    return taken


def _of_whole_batches() -> dict[str, list[Tensor]]:
    """Every process has the batch of both, which somebody else has gathered."""
    memory = mx.memory.CrossBatchMemory(criterion("ms"), DIM, MEMORY_SIZE, gather=False)
    return {"values": [memory(*step) for step in steps()], "memory": list(memory.buffers())}


def in_global_batch(name: str, rank: int | None = None) -> list[Part]:
    """Value, gradients and memory of every step, of the batches that GlobalBatch gathers, or of whole ones (no rank).

    In the middle the memory is another one, which goes on from what the first has saved.
    """
    torch.manual_seed(5 + (rank or 0))  # what is drawn is what the first rank draws
    trained, memory = model(), _memory_to_gather_for(name)
    taken = []
    for step, ((x, labels), sizes) in enumerate(zip(steps(), SIZES, strict=True)):
        if step == RESUMED:
            saved = memory.state_dict()
            memory = _memory_to_gather_for(name)
            memory.load_state_dict(saved)
        own = slice(None) if rank is None else slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        parameters = [*trained.parameters(), *memory.parameters()]
        for parameter in parameters:
            parameter.grad = None
        parts = mx.distributed.GlobalBatch(memory).parts(trained(x[own]), labels[own])
        parts.loss.backward()
        if rank is not None:
            mx.grad_cache.average_gradients(parameters)
        mixed = [] if parts.mixed is None else [parts.mixed]
        gradients = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in parameters]
        buffers = [buffer.clone() for buffer in memory.buffers()]
        taken.append([parts.loss.detach(), parts.clean, *mixed, *gradients, *buffers])
    return taken


def _memory_to_gather_for(name: str) -> nn.Module:
    loss, pairs = IN_GLOBAL_BATCH[name]
    made = criterion(loss)
    made = made if pairs is None else mx.Metrix(made, mix="embed", pairs=pairs, strength=STRENGTH)
    return mx.memory.CrossBatchMemory(made, DIM, MEMORY_SIZE, start=1, gather=False)


def _refusal(rank: int) -> str:
    """What a batch that is too large, but only of both ranks together, is answered with on every rank."""
    memory = mx.memory.CrossBatchMemory(mx.losses.NCALoss(), DIM, MEMORY_SIZE)
    x, labels = random_batch(MEMORY_SIZE - 1 + rank)
    try:
        memory(x, labels)
    except ValueError as error:
        return str(error)
    return "accepted"
