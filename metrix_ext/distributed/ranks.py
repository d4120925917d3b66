"""What the processes of a group tell each other, with gradients.

Backward of each message is its adjoint: what several ranks have received sends the sum of their gradients back. All
ranks then compute a copy of the same loss, and together the gradient of world size times that loss, wherever the work
was done; the mean over ranks that DistributedDataParallel takes is the gradient of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def several(group: dist.ProcessGroup | None = None) -> bool:
    """Whether torch.distributed is initialised, with more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


class Ranks:
    """The processes of a group.

    Attributes:
        rank: of this process, from 0 on.
        count: how many there are.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
        # NCCL reads no CPU memory; the other backends do, and no GPU has to be waited for.
        self._reads_cpu = "cpu:" in str(dist.get_backend_config(group))

    def numbers(self, own: Sequence[int]) -> list[list[int]]:
        """The numbers of every rank; each gives as many."""
        mine = torch.tensor(own, dtype=torch.int64, device=self._device_of_numbers)
        all_numbers = [torch.empty_like(mine) for _ in range(self.count)]
        with self.heard():
            dist.all_gather(all_numbers, mine, group=self.group)
        return [numbers.tolist() for numbers in all_numbers]

    def of_first(self, x: Tensor) -> Tensor:
        """x of rank 0, on all ranks; x itself is of the same size everywhere."""
        shared = x.to(self._device_of_numbers, copy=True)
        with self.heard():
            dist.broadcast(shared, group=self.group, group_src=0)
        return shared.to(x.device)

    def rows(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all ranks, one rank after the other, on every rank.

        Args:
            x: [n, ...] of this rank.
            sizes: n of every rank.
        """
        rows: Tensor = _Rows.apply(x, self, sizes)
        return rows

    def with_neighbour(self, x: Tensor, sizes: Sequence[int], step: int) -> Tensor:
        """The rows of this rank, followed by those of the rank that comes ``step`` after it, around a ring.

        A collective: every rank calls it with the same step.
        """
        joined: Tensor = _WithNeighbour.apply(x, self, sizes, step)
        return joined

    def neighbour(self, step: int) -> int:
        return (self.rank + step) % self.count

    def all_gather(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """``rows`` without a gradient. Every rank sends as much as the largest, which all backends can do."""
        padded = x.new_zeros((max(sizes), *x.shape[1:]))
        padded[: len(x)] = x
        received = [torch.empty_like(padded) for _ in sizes]
        with self.heard():
            dist.all_gather(received, padded, group=self.group)
        return torch.cat([rows[:size] for rows, size in zip(received, sizes, strict=True)])

    def sum(self, x: Tensor) -> Tensor:
        """The sum of x over the ranks, without a gradient."""
        total = x.clone(memory_format=torch.contiguous_format)
        with self.heard():
            dist.all_reduce(total, group=self.group)
        return total

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over the ranks, without a gradient."""
        return self.sum(x) / self.count

    def pass_on(self, sent: Tensor, received: Tensor, step: int) -> None:
        """Sends a tensor ``step`` ranks back and receives one from ``step`` ranks ahead; negative steps turn it round.

        Both are contiguous. Empty ones are not sent, as their receivers know.
        """
        messages = [(dist.isend, sent, -step), (dist.irecv, received, step)]
        operations = [
            dist.P2POp(operation, tensor, group=self.group, group_peer=self.neighbour(to))
            for operation, tensor, to in messages
            if tensor.numel()
        ]
        with self.heard():
            for work in dist.batch_isend_irecv(operations) if operations else ():
                work.wait()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """In it, a message that does not arrive raises a RuntimeError that says what that means."""
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"mx.distributed: rank {self.rank} of {self.count} does not hear from the others: one has ended, or is "
                f"further behind than the timeout of init_process_group ({str(error).splitlines()[0]})"
            ) from error

    @property
    def _device_of_numbers(self) -> torch.device:
        return torch.device("cpu") if self._reads_cpu else torch.device("cuda", torch.cuda.current_device())


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks, sizes: Sequence[int]) -> Tensor:
        ctx.ranks, ctx.sizes = ranks, sizes
        return ranks.all_gather(x, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.ranks.sum(gradient).split(list(ctx.sizes))[ctx.ranks.rank], None, None


class _WithNeighbour(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks, sizes: Sequence[int], step: int) -> Tensor:
        ctx.ranks, ctx.step = ranks, step
        ctx.sizes = [len(x), sizes[ranks.neighbour(step)]]
        joined = x.new_empty((sum(ctx.sizes), *x.shape[1:]))
        own, other = joined.split(ctx.sizes)
        ranks.pass_on(own.copy_(x), other, step)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        own, other = gradient.contiguous().split(ctx.sizes)
        received = torch.empty_like(own)
        ctx.ranks.pass_on(other, received, -ctx.step)
        return received.add_(own), None, None, None
