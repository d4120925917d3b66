"""Sums of many anchors without their whole matrix of similarities: O(n d) memory beside a fixed workspace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .backend import requested, use_backend
from .batch import Batch, inner_products
from .relations import Relations

Sums = tuple[Tensor, Tensor]

# Bytes of similarities that are computed and kept whole; more are computed chunk by chunk, and again in backward.
LARGEST_WHOLE = 512 * 2**20
# Bytes of a chunk's matrices: similarities, lambda and the gradients of what is read.
WORKSPACE = 64 * 2**20
MATRICES = 4


def sums_of_anchors(batch: Batch, sums_of_rows: Callable[[Tensor, Relations, slice], Sums]) -> Sums:
    """sums_of_rows of all anchors, in chunks of them where the similarities are large.

    Args:
        sums_of_rows: gives the sums [c, 2] and the numbers of terms that are not 0 [c, 2] of some anchors from their
            similarities [c, n], their relations and the slice of the anchors that they are. Must not draw at random.

    Returns:
        Both [m, 2].
    """
    row = len(batch.examples) * batch.examples.element_size()
    m = len(batch.anchors)
    if m * row <= LARGEST_WHOLE:
        return sums_of_rows(batch.similarity, batch.relations, slice(None))

    # Backward computes a chunk again on the backend of the forward pass; a compiled graph has but one.
    name = requested()

    def sums_of_chunk(anchors: Tensor, rows: slice) -> Sums:
        with contextlib.nullcontext() if torch.compiler.is_compiling() else use_backend(name):
            return sums_of_rows(inner_products(anchors, batch.examples), batch.relations.of_rows(rows), rows)

    size = max(1, WORKSPACE // (MATRICES * row))
    chunks = [
        checkpoint(sums_of_chunk, anchors, slice(begin, begin + size), use_reentrant=False, preserve_rng_state=False)
        for begin, anchors in zip(range(0, m, size), batch.anchors.split(size), strict=True)
    ]
    sums, nonzero = zip(*chunks, strict=True)
    return torch.cat(sums), torch.cat(nonzero)
