"""Cross-batch memory (Wang et al., CVPR 2020): embeddings of the latest batches as references of the current one."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .batch.checks import as_labels, check_embeddings, check_same_device
from .distributed.ranks import Ranks, several
from .losses import LossParts, TableLoss
from .metrix import Metrix
from .terms.checks import check_flag, check_whole


class _Counts(NamedTuple):
    """What the buffers of these names hold, as numbers."""

    position: int
    filled: int
    steps: int


class _References(NamedTuple):
    """What a batch is compared with.

    Attributes:
        embeddings, labels: what is in use of the memory.
        rows: [n] int64, where in it each embedding of this process is.
        ranks: the number of processes.
        share: that of this process in all anchors, times the number of processes.
    """

    embeddings: Tensor
    labels: Tensor
    rows: Tensor
    ranks: int
    share: float


class CrossBatchMemory(nn.Module):
    """Compares every batch with the latest embeddings, those of the batches before it included.

    At every call in training mode the batch takes the place of the oldest embeddings. The memory is then the reference
    (``ref_emb``) of the criterion: anchors are the batch, positives and negatives, clean and mixed, are what is in the
    memory, where an anchor's own copy is left out by its row. What is in the memory is constant, so that gradients
    reach the embeddings of the batch alone, as anchors. With a proxy anchor loss, whose anchors are the proxies, the
    batch itself stands in the rows of its copies, with gradients.

    The memory fills from the first call on, but is compared with only after ``start`` calls, when embeddings drift
    slowly; until then, and in eval mode, which changes nothing, the value is that of the criterion on the batch alone.

    Of several processes (torch.distributed is initialised) each adds the batches of all, in the order of ranks and of
    any sizes, so that the memory is the same everywhere. Its anchors are its own batch, and its loss is weighted by
    their share in all anchors: the mean over processes, which DistributedDataParallel takes of the gradients, is the
    loss of all anchors. With proxies as anchors, which all processes share, each has the whole loss.

    The state dict has the memory and where it stands, so that training resumes where it was.

    Args:
        criterion: a loss of metrix_ext.losses or Metrix, of embeddings (mix="embed"), as the memory has no images and
            no feature maps. Not with proxies as positives and negatives, which leave nothing to remember.
        embedding_size: d.
        memory_size: how many embeddings are remembered, at least those of a batch (of all processes).
        start: number of calls without the memory.
        gather: False where each process is called with the batch of all, as inside of distributed.GlobalBatch.

    Attributes:
        embeddings, labels: [memory_size, d] and [memory_size]. Of the module's type (float32, until ``.double()`` or
            embeddings in float64), int64.
        position, filled, steps: the row that is written next, how many are in use, how many calls there were; int64.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    embeddings: Tensor
    labels: Tensor
    position: Tensor
    filled: Tensor
    steps: Tensor

    def __init__(
        self,
        criterion: TableLoss | Metrix,
        embedding_size: int,
        memory_size: int = 1024,
        start: int = 0,
        gather: bool = True,
    ) -> None:
        super().__init__()
        self.anchors_are_proxies = _loss_of(criterion).anchors == "proxies"
        self.criterion = criterion
        self.embedding_size = check_whole("embedding_size", embedding_size)
        self.memory_size = check_whole("memory_size", memory_size)
        self.start = check_whole("start", start, least=0)
        self.gather = check_flag("gather", gather)
        self.register_buffer("embeddings", torch.zeros(self.memory_size, self.embedding_size))
        self.register_buffer("labels", torch.zeros(self.memory_size, dtype=torch.int64))
        for name in _Counts._fields:
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        # Read from the buffers once, after loading: a device is not waited for at every call.
        self._counts: _Counts | None = None

    def forward(
        self, embeddings: Tensor, labels: Any, indices_tuple: tuple[Tensor, ...] | None = None, **of_criterion: Any
    ) -> Tensor:
        """The loss of the batch, compared with the memory.

        Args:
            embeddings: [n, d], n at most memory_size.
            labels: [n] integers.
            indices_tuple: refused, as a miner has not seen the memory.
            of_criterion: what else the criterion is called with (``seed``), except references: the memory is these.

        Returns:
            A scalar.

        Raises:
            TypeError, ValueError: an argument is not as above. The memory then is as it was, unless it is the criterion
                that refuses one of its own.
        """
        return self.parts(embeddings, labels, indices_tuple, **of_criterion).loss

    def parts(
        self, embeddings: Tensor, labels: Any, indices_tuple: tuple[Tensor, ...] | None = None, **of_criterion: Any
    ) -> LossParts:
        """What ``forward`` returns with its clean and its mixed part. Arguments as of ``forward``."""
        for name, value in {"indices_tuple": indices_tuple, **of_criterion}.items():
            if value is not None and name in ("indices_tuple", "ref_emb", "ref_labels", "ref_self"):
                raise ValueError(f"{name}: got one, expected none: a batch is compared with all that is in the memory")
        labels = self._checked(embeddings, labels)
        if not self.training:
            return self.criterion.parts(embeddings, labels, **of_criterion)
        memory = self._remember(embeddings.detach(), labels)
        if memory is None:
            return self.criterion.parts(embeddings, labels, **of_criterion)
        if self.anchors_are_proxies:
            # All processes have the same anchors: each has the whole loss, and its share in the gradient of its batch.
            batch = embeddings + (memory.ranks - 1) * (embeddings - embeddings.detach())
            examples = memory.embeddings.index_copy(0, memory.rows, batch.to(memory.embeddings.dtype))
            return self.criterion.parts(examples, memory.labels, **of_criterion)
        references = {"ref_emb": memory.embeddings, "ref_labels": memory.labels, "ref_self": memory.rows}
        parts = self.criterion.parts(embeddings, labels, **references, **of_criterion)
        mixed = None if parts.mixed is None else memory.share * parts.mixed
        return LossParts(memory.share * parts.loss, memory.share * parts.clean, mixed)

    def _checked(self, embeddings: Tensor, labels: Any) -> Tensor:
        """The labels as int64 [n]."""
        check_embeddings("embeddings", embeddings)
        if embeddings.shape[1] != self.embedding_size:
            raise ValueError(
                f"embeddings: got {list(embeddings.shape)}, expected [n, {self.embedding_size}] as embedding_size"
            )
        check_same_device("memory", self.embeddings, embeddings)
        return as_labels("labels", labels, embeddings)

    @torch.compiler.disable
    def _remember(self, embeddings: Tensor, labels: Tensor) -> _References | None:
        """Puts the batch, of all processes, into the place of the oldest embeddings; None until the memory is used."""
        self.embeddings = self.embeddings.to(torch.promote_types(self.embeddings.dtype, embeddings.dtype))
        embeddings = embeddings.to(self.embeddings.dtype)
        ranks = Ranks() if self.gather and several() else None
        sizes, rank = [len(embeddings)], 0
        if ranks is not None:
            sizes, rank = [rows for (rows,) in ranks.numbers([len(embeddings)])], ranks.rank
        total, begin = sum(sizes), sum(sizes[:rank])
        if total > self.memory_size:
            raise ValueError(f"embeddings: got {total} in a batch, expected at most {self.memory_size} as memory_size")
        if ranks is not None:
            embeddings, labels = ranks.all_gather(embeddings, sizes), ranks.all_gather(labels, sizes)
        position, filled, steps = self._known_counts()
        rows = (torch.arange(total, device=labels.device) + position) % self.memory_size
        self.embeddings.index_copy_(0, rows, embeddings)
        self.labels.index_copy_(0, rows, labels)
        filled, steps = min(filled + total, self.memory_size), steps + 1
        self._count((position + total) % self.memory_size, filled, steps)
        if steps <= self.start:
            return None
        own, share = rows[begin : begin + sizes[rank]], sizes[rank] * len(sizes) / max(1, total)
        return _References(self.embeddings[:filled], self.labels[:filled], own, len(sizes), share)

    def _known_counts(self) -> _Counts:
        if self._counts is None:
            self._counts = _Counts(*(int(getattr(self, name)) for name in _Counts._fields))
        return self._counts

    def _count(self, *counts: int) -> None:
        self._counts = _Counts(*counts)
        for name, number in self._counts._asdict().items():
            getattr(self, name).fill_(number)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "embeddings")
        if isinstance(saved, Tensor):  # what double precision has remembered is not rounded
            self.embeddings = self.embeddings.to(torch.promote_types(self.embeddings.dtype, saved.dtype))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._counts = None

    def extra_repr(self) -> str:
        return f"embedding_size={self.embedding_size}, memory_size={self.memory_size}, start={self.start}"


def _loss_of(criterion: Any) -> TableLoss:
    """The loss, or that of Metrix, once it is known that a memory is something to compare with for it."""
    loss = criterion.loss if isinstance(criterion, Metrix) else criterion
    if not isinstance(loss, TableLoss):
        raise TypeError(f"criterion: got {type(criterion).__name__}, expected a loss of metrix_ext.losses or Metrix")
    if loss.candidates == "proxies":
        raise ValueError(
            f"criterion: {type(loss).__name__} compares examples with its proxies alone, it has no use for a memory"
        )
    if isinstance(criterion, Metrix) and criterion.mix != ("embed",):
        raise ValueError(
            f"criterion: mixes {', '.join(criterion.mix)}, but a memory has embeddings: expected mix='embed'"
        )
    return loss
