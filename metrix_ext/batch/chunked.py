"""Sums of many anchors without whole matrices of anchors or examples: O(n d) memory beside a fixed workspace."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..backend import requested, use_backend
from ..terms.relations import Relations
from .batch import Batch, inner_products
from .recompute import recomputed

Sums = tuple[Tensor, ...]  # whatever there is of every anchor

# Bytes of similarities that are computed and kept whole, 16,384 examples in float32 (8,192 where pairs of examples have
# matrices, too); more are computed chunk by chunk, and again in backward: less memory, twice to three times the time.
LARGEST_WHOLE = 2**30
# Bytes of a chunk's matrices: similarities, lambda and the gradients of what is read. Each has more than the 32 MiB up
# to which glibc may give memory from a heap: what one chunk leaves there is cut up, and the next does not fit.
WORKSPACE = 160 * 2**20
# On a GPU, where each chunk is dozens of launches and adds n d numbers to the gradient of the examples: 512 rows at
# n = 65,536 in float32.
WORKSPACE_OF_GPU = 512 * 2**20
MATRICES = 4


def sums_of_anchors(batch: Batch, sums_of_rows: Callable[[Tensor, Relations, slice], Sums]) -> Sums:
    """sums_of_rows of all anchors, in chunks of them where the similarities are large.

    Args:
        sums_of_rows: gives sums, and the numbers of terms that are not 0, each [c, 2], of some anchors from their
            similarities [c, n], their relations and the slice of the anchors that they are. Must not draw at random.

    Returns:
        The same of all anchors, [m, 2].
    """
    if not is_large(batch):
        return sums_of_rows(batch.similarity, batch.relations, slice(None))
    size, m = _rows_of_chunk(batch), len(batch.anchors)
    rows = [slice(begin, begin + size) for begin in range(0, m, size)]
    return _sums_of_chunks(batch, batch.anchors.split(size), map(batch.relations.of_rows, rows), rows, sums_of_rows)


def is_large(batch: Batch) -> bool:
    """Whether the similarities of all anchors are too large to be kept."""
    return len(batch.anchors) * _bytes_of_row(batch) > LARGEST_WHOLE


def needs_windows(batch: Batch) -> bool:
    """Whether the matrices of sums within the examples are large, and can be cut into windows: there is no mask."""
    largest = max(len(batch.anchors), len(batch.examples)) * _bytes_of_row(batch)
    return batch.relations.mask is None and MATRICES * largest > LARGEST_WHOLE


def sums_of_windows(batch: Batch, sums_of_window: Callable[[Tensor, Relations, slice], Sums]) -> Sums:
    """sums_of_window of all anchors, in chunks of whole classes: pairs whose first is a positive of such anchors.

    Where the chunks end depends on the labels: a device is waited for once, and torch.compile breaks its graph.

    Args:
        sums_of_window: as sums_of_rows above, but the slice is that of the examples which hold the anchors' classes; if
            the anchors are examples, they are these. A class that is larger than a chunk is one of its own.

    Returns:
        The same of all anchors, [m, 2].
    """
    anchors, relations, order = batch.anchors, batch.relations, None
    if not batch.anchors_are_examples:
        order = relations.positives[:, 0].argsort(stable=True)
        anchors, relations = anchors.index_select(0, order), relations.of_rows(order)
    sizes, windows = _whole_classes(relations.positives, _rows_of_chunk(batch))
    of_chunks = map(Relations, relations.positives.split(sizes), relations.self_index.split(sizes))
    sums = _sums_of_chunks(batch, anchors.split(sizes), of_chunks, windows, sums_of_window)
    if order is None:
        return sums
    place = order.argsort()
    return tuple(of_anchors.index_select(0, place) for of_anchors in sums)


def _whole_classes(positives: Tensor, size: int) -> tuple[list[int], list[slice]]:
    """Numbers of anchors and ranges of examples, at most ``size`` of each unless one class has more.

    Args:
        positives: [m, 2] the ranges of the anchors' classes, in ascending order.
    """
    sizes: list[int] = []
    windows: list[slice] = []
    for (begin, end), anchors in itertools.groupby(positives.tolist()):
        count = sum(1 for _ in anchors)
        if sizes and sizes[-1] + count <= size and end - windows[-1].start <= size:
            sizes[-1] += count
            windows[-1] = slice(windows[-1].start, max(end, windows[-1].stop))
        else:
            sizes.append(count)
            windows.append(slice(begin, end))
    return sizes or [0], windows or [slice(0, 0)]  # nobody is a chunk, too


def _rows_of_chunk(batch: Batch) -> int:
    workspace = WORKSPACE_OF_GPU if batch.examples.is_cuda else WORKSPACE
    return max(1, workspace // (MATRICES * _bytes_of_row(batch)))


def _bytes_of_row(batch: Batch) -> int:
    return len(batch.examples) * batch.examples.element_size()


def _sums_of_chunks(
    batch: Batch,
    anchors: Iterable[Tensor],
    relations: Iterable[Relations],
    slices: Iterable[slice],
    sums_of_rows: Callable[[Tensor, Relations, slice], Sums],
) -> Sums:
    """Chunk after chunk; backward computes each again."""
    # On the backend of the forward pass; a compiled graph has but one.
    name = requested()

    def sums_of_chunk(anchors: Tensor, relations: Relations, rows: slice) -> Sums:
        with contextlib.nullcontext() if torch.compiler.is_compiling() else use_backend(name):
            return sums_of_rows(inner_products(anchors, batch.examples), relations, rows)

    chunks = [
        recomputed(sums_of_chunk, *chunk, preserve_rng_state=False)
        for chunk in zip(anchors, relations, slices, strict=True)
    ]
    return tuple(torch.cat(of_chunks) for of_chunks in zip(*chunks, strict=True))
