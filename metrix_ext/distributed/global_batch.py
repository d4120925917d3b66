"""A criterion of the batches of all processes, as one process would compute it on the concatenated batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..batch.recompute import RandomState
from ..batch.shares import anchors_shared_out
from ..losses import LossParts
from .gathered import gathered
from .ranks import Ranks, several


class GlobalBatch(nn.Module):
    """The loss of the global batch on every rank: the anchors of all ranks against the examples of all ranks.

    Called on every rank as the criterion is in one process, with what the rank has; batches may differ in size. After
    the gradients have been averaged over ranks, as DistributedDataParallel or ``grad_cache.average_gradients`` do,
    those of all parameters, the criterion's own too, are those of one process with the concatenated batch. No factor is
    missing: not world size, and not the share of a rank in the batch.

    - Embeddings, labels and references are gathered. Of the clean loss and of embedding mixup every rank computes the
      sums of its share of the anchors, against the global batch; these, two numbers an anchor, are gathered again.
    - Of feature maps and images a rank holds its own and those of one other rank, never all. The mixes are shared out
      among the ranks, which send each other their sources once in forward and, with gradients, once more in backward.
      Batch norm in an encoder sees the mixes of a rank only; SyncBatchNorm in training mode is refused there, as ranks
      have different numbers of mixes.
    - What is drawn, the mix, the pairs and lambda, is drawn as rank 0 would draw it, whose generators alone move on. A
      ``seed`` is that of rank 0. All else that is not a batch, such as a given lambda, has to be the same everywhere.
    - A ``memory.CrossBatchMemory`` belongs inside, not around, with ``gather=False``, and is the same on every rank.
    - Where torch.distributed is not initialised, or of one process, the criterion is called as it is.
    - A rank that ends, or is too far behind, raises a RuntimeError on the others after the timeout of
      ``init_process_group`` at the latest; with NCCL its watchdog ends the process.

    Args:
        criterion: any loss of the library, Metrix, or a module around one that is called as they are.
        group: the processes; None are all.

    Raises:
        TypeError: the criterion is no torch.nn.Module.
        ValueError: it has a memory that gathers batches itself.
    """

    def __init__(self, criterion: nn.Module, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        if not isinstance(criterion, nn.Module):
            raise TypeError(f"criterion: got {type(criterion).__name__}, expected a torch.nn.Module")
        if any(getattr(module, "gather", False) is True for module in criterion.modules()):
            raise ValueError("criterion: gathers the batches of all ranks itself, expected a memory with gather=False")
        self.criterion = criterion
        self.group = group

    def forward(
        self,
        embeddings: Tensor,
        labels: Any,
        indices_tuple: tuple[Tensor, ...] | None = None,
        **arguments: Any,
    ) -> Tensor:
        """The loss of the global batch.

        Args:
            embeddings: [n, d] of this rank. n may differ between ranks and be 0.
            labels: [n] integers.
            indices_tuple: a miner's output on the rows of this rank, if the criterion takes one.
            arguments: of the criterion: ref_emb and ref_labels of this rank, which are gathered; source of this rank,
                as many rows as embeddings or, with them, references; encode and seed; anything else is passed on.

        Returns:
            A scalar, the same on every rank.

        Raises:
            TypeError, ValueError: an argument is not as above, or not as the criterion takes it.
            RuntimeError: another rank has refused its arguments, or is not heard from.
        """
        if indices_tuple is not None:
            arguments["indices_tuple"] = indices_tuple
        return self._of_global_batch(self.criterion, embeddings, labels, arguments)

    def parts(self, embeddings: Tensor, labels: Any, **arguments: Any) -> LossParts:
        """``criterion.parts`` of the global batch: its loss, and that of its clean and its mixed part without graphs.
        Arguments as of ``forward``."""
        return self._of_global_batch(self.criterion.parts, embeddings, labels, arguments)

    def mixed_loss(self, embeddings: Tensor, labels: Any, **arguments: Any) -> Tensor:
        """``criterion.mixed_loss`` of the global batch: the mixed term alone. Arguments as of ``forward``, and its."""
        return self._of_global_batch(self.criterion.mixed_loss, embeddings, labels, arguments)

    def _of_global_batch(self, function: Any, embeddings: Tensor, labels: Any, arguments: dict[str, Any]) -> Any:
        if not several(self.group):
            return function(embeddings, labels, **arguments)
        ranks = Ranks(self.group)
        embeddings, labels, arguments = gathered(ranks, embeddings, labels, arguments)
        with drawn_by_first(ranks, embeddings.device), anchors_shared_out(ranks):
            return function(embeddings, labels, **arguments)


@contextmanager
def drawn_by_first(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """In it, torch's generators give on every rank what they give on rank 0; the others' do not move."""
    own = RandomState.now(device)
    of_device = None if own.of_device is None else ranks.of_first(own.of_device)
    RandomState(device, ranks.of_first(own.of_cpu), of_device).restore()
    try:
        yield
    finally:
        if ranks.rank > 0:
            own.restore()
