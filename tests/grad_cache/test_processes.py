"""Several processes: gradients averaged by hand, numbers of micro-batches that differ."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

import metrix_ext as mx
from tests.grad_cache.networks import backbone, batch, criterion, head
from tests.support.compare import assert_close

SHARES = {0: slice(0, 5), 1: slice(5, 12)}  # of the batch: 2 and 3 micro-batches of 3


def step(share: slice) -> list[torch.nn.Module]:
    torch.manual_seed(5)
    modules = [criterion("pa", "feature"), backbone().to(memory_format=torch.channels_last), head()]
    images, labels = batch()
    mx.GradCache(*modules, micro_batch=3)(images[share], labels[share])
    return modules


def parameters(modules: list[torch.nn.Module]) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters()]


def on_a_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    modules = step(SHARES[rank])
    unused = torch.nn.Parameter(torch.ones(2))  # on one of the two, as a parameter of a branch that was not taken
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    if rank == 0:
        unused.grad = torch.tensor([2.0, 4.0])
    everything = [*parameters(modules), unused, frozen]
    mx.grad_cache.average_gradients(everything)
    assert frozen.grad is None
    torch.save([parameter.grad for parameter in everything[:-1]], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_average_gradients(tmp_path: Path) -> None:
    mp.start_processes(on_a_rank, (tmp_path,), nprocs=2, start_method="spawn")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in SHARES]
    each = [[parameter.grad for parameter in parameters(step(share))] for share in SHARES.values()]
    want = [(a + b) / 2 for a, b in zip(*each, strict=True)]
    for gradients in found:
        assert_close(gradients[:-1], want, rtol=1e-12)
        assert gradients[-1].tolist() == [1.0, 2.0]
