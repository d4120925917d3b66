"""Mixup of anything that has to be encoded: images through the model, feature maps through any head."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..backend import requested, use_backend
from ..batch.batch import Batch
from ..batch.recompute import recomputed
from ..ops.anchor_sums import anchor_sums
from ..reference import log_sum
from ..terms.formula import Rho
from ..terms.mixes import Mixes
from ..terms.pair_sets import unordered
from ..terms.used_pairs import used_pairs
from .lambdas import Lambda

Sums = tuple[Tensor, ...]  # and how many terms are not 0, [m, 2] each


def mix_encoded(
    batch: Batch,
    rho: tuple[Rho, Rho],
    pairs: str,
    lam: Lambda,
    source: Tensor,
    encode: Callable[[Tensor], Tensor],
    normalize: bool,
) -> Sums:
    """Mixup of anything that has to be encoded: images through the model, feature maps through any head.

    Only the pairs that some anchor uses are mixed, one mix for all its anchors, n at a time. Mixes and activations are
    recomputed in backward: memory grows with the batch, not with the number of pairs.

    Args:
        source: [n, ...] what is mixed, in the caller's order.
        encode: maps mixed sources [p, ...] to embeddings [p, d].
        normalize: whether the embeddings are l2-normalised again.

    Raises:
        ValueError: encode is not what ``check_processes`` asks for.
    """
    check_processes(encode)
    n = len(batch.order)
    both_orders = lam.one_mix_per_pair and not unordered(pairs)

    def sums_of_chunk(mixes: Mixes) -> Sums:
        v = encoded_mixes(source, batch.order, mixes, encode, batch.anchors)
        return anchor_sums(v, batch.anchors, batch.relations, rho, pairs, mixes, both_orders, normalize)

    sums, nonzero = [], []
    for listed in used_pairs(batch.relations, pairs, lam.one_mix_per_pair, n, max(1, n)):
        chunk_sums, chunk_nonzero = recomputed(
            sums_of_chunk,
            listed.mixes(lam.at(listed.first, listed.second)),
            context_fn=lambda: recompute_contexts(encode),
        )
        sums.append(chunk_sums)
        nonzero.append(chunk_nonzero)
    stacked, counts = torch.stack(sums, -1), torch.stack(nonzero, -1).sum(-1)
    return (log_sum(stacked, torch.ones_like(stacked)) if rho[0].exponential else stacked.sum(-1)), counts


def encoded_mixes(
    source: Tensor, order: Tensor, mixes: Mixes, encode: Callable[[Tensor], Tensor], anchors: Tensor
) -> Tensor:
    """The mixes of sources, encoded, [p, d] in the type of the anchors. Example e of the mixes is source[order[e]]."""
    first, second = (source.index_select(0, order[index]) for index in (mixes.first, mixes.second))
    weight = mixes.lam.to(source.dtype).reshape(-1, *[1] * (source.dim() - 1))
    return _checked(encode(torch.lerp(second, first, weight)), len(mixes), anchors).to(anchors.dtype)


def _checked(v: Any, mixes: int, anchors: Tensor) -> Tensor:
    """What encode has returned, once it is known to be a mix [p, d] for each."""
    if not isinstance(v, Tensor):
        raise TypeError(f"encode: returned {type(v).__name__}, expected a tensor of embeddings")
    if not v.is_floating_point():
        raise TypeError(f"encode: returned {v.dtype}, expected floats")
    if v.shape != (mixes, anchors.shape[1]):
        raise ValueError(f"encode: returned {list(v.shape)}, expected [{mixes}, {anchors.shape[1]}] as embeddings")
    if v.device != anchors.device:
        raise ValueError(f"encode: returned a tensor on {v.device}, expected {anchors.device} as embeddings")
    return v


def check_processes(encode: Callable[[Tensor], Tensor]) -> None:
    """Refuses an encoder that all processes have to call equally often: how many mixes each has depends on labels."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    for module in encode.modules() if isinstance(encode, nn.Module) else ():
        if isinstance(module, nn.SyncBatchNorm) and module.training and dist.get_world_size(module.process_group) > 1:
            raise ValueError(
                "encode: has SyncBatchNorm in training mode, which waits for all processes at each call, but they have "
                "different numbers of mixes; expected it in eval mode, or BatchNorm"
            )


def recompute_contexts(
    encode: Callable[[Tensor], Tensor],
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Of a forward pass through an encoder and of its recomputation, for ``recomputed``."""
    return contextlib.nullcontext(), _Again(encode, requested())


class _Again(contextlib.ExitStack):
    """As the forward pass was: on its backend, and with the running statistics that it has left.

    A class, since it is entered anew at each backward pass of a graph that is retained.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], backend: str) -> None:
        super().__init__()
        self.encode, self.backend = encode, backend

    def __enter__(self) -> _Again:
        if not torch.compiler.is_compiling():  # a compiled graph has but one backend
            self.enter_context(use_backend(self.backend))
        self.enter_context(_frozen_running_statistics(self.encode))
        return self


@contextlib.contextmanager
def _frozen_running_statistics(encode: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Keeps the recomputation of backward from updating batch-norm statistics a second time."""
    modules = encode.modules() if isinstance(encode, nn.Module) else ()
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for module in norms:
        # Tracking goes on, with momentum 0: without it the recomputation would save other tensors than forward did.
        # SyncBatchNorm cannot do without a number of batches.
        batches = module.num_batches_tracked if isinstance(module, nn.SyncBatchNorm) else None
        module.momentum, module.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for module, (momentum, batches) in zip(norms, before, strict=True):
            module.momentum, module.num_batches_tracked = momentum, batches
