"""The k nearest neighbours of every query, chunk by chunk, of equal ones the first."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .. import backend
from ..batch.chunked import LARGEST_WHOLE
from ..ops.gram import gram
from ..ops.precision import full_precision
from .checks import check_embeddings, check_ks
from .compute import chunk_size, compute_dtype
from .top import top


def nearest(embeddings: Tensor, k: int, gallery: Tensor | None = None) -> Tensor:
    """Indices of the k most similar candidates of each example, most similar first.

    Similarity, ties and the meaning of `gallery` are those of :func:`recall_at_k`.

    Args:
        embeddings: [n, d] floating point, the queries.
        k: at least 1; cut to the number of candidates (n - 1, or m with a gallery).
        gallery: [m, d] floating point, or None.

    Returns:
        [n, min(k, candidates)] int64, on the device of `embeddings`.

    Raises:
        TypeError, ValueError: as :func:`recall_at_k`.
    """
    (k,) = check_ks(k)
    check_embeddings("embeddings", embeddings)
    if gallery is not None:
        check_embeddings("gallery", gallery, like=embeddings)
    depth = torch.full((len(embeddings),), k)
    return torch.cat([neighbours for _, neighbours in neighbour_chunks(embeddings, depth, gallery)])


def neighbour_chunks(queries: Tensor, depth: Tensor, gallery: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """(rows, their neighbours [rows, k]) for one chunk of queries after the other.

    depth: [n] integer, how many neighbours each query needs. k is the most that a query of the chunk needs, cut to the
    number of candidates: one class of many examples does not make every other chunk search as deep.
    """
    dtype = compute_dtype(queries, *([] if gallery is None else [gallery]))
    q = normalize(queries.detach().to(dtype))
    candidates = q if gallery is None else normalize(gallery.detach().to(dtype))
    depth = depth.cpu().clamp(max=len(candidates) - (gallery is None))
    chunks = math.ceil(len(q) / chunk_size(len(candidates), int(depth.max())))
    # Of equal size: a single row left over would be multiplied as a vector, which is rounded otherwise.
    step = math.ceil(len(q) / chunks)
    for rows, similarity in _similarities(q, candidates, step):
        if gallery is None:
            similarity.diagonal(rows.start).fill_(-torch.inf)
        yield rows, top(similarity, int(depth[rows].max()))


def _similarities(q: Tensor, candidates: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
    """(rows, their similarities [rows, candidates]) for `step` queries after the other.

    The similarities are void once those of the next queries are asked for.
    """
    chunks = [slice(start, min(start + step, len(q))) for start in range(0, len(q), step)]
    fits = candidates is q and len(q) ** 2 * q.element_size() <= LARGEST_WHOLE
    if fits and backend.choose(q.device) == "cpu":
        whole = gram(q)
        yield from ((rows, whole[rows]) for rows in chunks)
        return
    # One block for all chunks: the system would clear the pages of a new one each time.
    block = q.new_empty((step, len(candidates)))
    for rows in chunks:
        similarity = block[: rows.stop - rows.start]
        with full_precision(q.device):
            torch.mm(q[rows], candidates.T, out=similarity)
        yield rows, similarity
