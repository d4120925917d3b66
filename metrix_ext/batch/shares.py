"""The anchors of a batch that several processes have as a whole, shared out among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from .batch import Batch

Sums = tuple[Tensor, ...]  # whatever there is of every anchor, [m, ...] each


class Processes(Protocol):
    """Those that share the anchors.

    Attributes:
        rank: of this process, from 0 on.
        count: how many there are.
    """

    rank: int
    count: int

    def rows(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all, one process after the other; as many as in sizes. Its backward adds up the gradients."""

    def mean(self, x: Tensor) -> Tensor:
        """Of a gradient of each, which is the gradient of the loss of all; without a gradient of its own."""


_sharing: ContextVar[Processes | None] = ContextVar("metrix_ext.sharing", default=None)


@contextmanager
def anchors_shared_out(processes: Processes) -> Iterator[None]:
    """In it, in this thread, each process computes the sums of its share of the anchors. All have the same batches."""
    before = _sharing.set(processes)
    try:
        yield
    finally:
        _sharing.reset(before)


def sharing() -> Processes | None:
    """Those that share the anchors now; None where each process has batches of its own."""
    return _sharing.get()


def shared_out(batch: Batch, sums_of: Callable[[Batch, slice], Sums]) -> Sums:
    """The sums of all anchors, of which each process computes some where they are shared out.

    Args:
        sums_of: gives floats [c, 2] of each of some anchors, from the batch with these alone and the slice that they
            are of all. Must not draw at random.

    Returns:
        The same of all anchors, [m, 2].
    """
    # A compiled graph has no messages: it computes all.
    processes = None if torch.compiler.is_compiling() else sharing()
    if processes is None:
        return sums_of(batch, slice(None))
    ends = [rank * len(batch.anchors) // processes.count for rank in range(processes.count + 1)]
    shares = [slice(begin, end) for begin, end in pairwise(ends)]
    own = shares[processes.rank]
    sums = sums_of(batch.of_anchors(own), own)
    of_all = processes.rows(torch.cat(sums, 1), [share.stop - share.start for share in shares])
    return of_all.split(2, 1)
