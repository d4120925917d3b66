"""The processes of one run, as torchrun starts them: each has its share of every batch, and the first one writes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metrix_ext.distributed.ranks import Ranks

from .errors import UserError, one_line


@dataclass(frozen=True)
class Processes:
    """rank: of this process, from 0 on. count: how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def are_several(self) -> bool:
        return self.count > 1

    def share(self, total: int) -> slice:
        """Of a batch of that many."""
        return slice(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def rows(self, total: int) -> range:
        """Of that many rows: one in so many, as `rows_of_all` puts them together again."""
        return range(self.rank, total, self.count)

    def rows_of_all(self, x: Tensor) -> Tensor:
        """The rows of every rank, in order."""
        if not self.are_several:
            return x
        ranks = Ranks()
        sizes = [size for (size,) in ranks.numbers([len(x)])]
        where = torch.cat([torch.arange(size) * self.count + rank for rank, size in enumerate(sizes)])
        return ranks.all_gather(x, sizes)[where.argsort().to(x.device)]

    def copy_buffers(self, module: nn.Module) -> None:
        """Running statistics of batch norm are those of the first process, which has seen its own images only."""
        if self.are_several:
            with Ranks().heard():
                for buffer in module.buffers():
                    dist.broadcast(buffer, 0)

    def wait(self) -> None:
        if self.are_several:
            with Ranks().heard():
                dist.barrier()


ALONE = Processes()


def start(device_type: str) -> Processes:
    """Joins the processes that torchrun has started, if it has. Only the first one prints."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    try:
        dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        reason = one_line(error)
        raise UserError(f"the {count} processes do not find each other ({reason}): start them by torchrun") from None
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    return Processes(dist.get_rank(), count)


def local_device() -> str:
    """The GPU of this process, where there are several of both."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def end(processes: Processes) -> None:
    if processes.are_several:
        dist.destroy_process_group()
