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
from .checks import check_embeddings, check_ks
from .compute import chunk_size, compute_dtype, full_precision


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
        yield rows, _top(similarity, int(depth[rows].max()))


def _similarities(q: Tensor, candidates: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
    """(rows, their similarities [rows, candidates]) for `step` queries after the other."""
    is_whole = candidates is q and len(q) ** 2 * q.element_size() <= LARGEST_WHOLE
    whole = gram(q) if is_whole and backend.choose(q.device) == "cpu" else None
    for start in range(0, len(q), step):
        rows = slice(start, min(start + step, len(q)))
        if whole is not None:
            yield rows, whole[rows]
        else:
            with full_precision(q.device):
                similarity = q[rows] @ candidates.T
            yield rows, similarity


def _top(similarity: Tensor, k: int) -> Tensor:
    """Indices of the k largest entries of each row, largest first, of equal ones the lower index first.

    topk alone leaves open which of several equal entries it returns, and in what order.
    """
    rows, columns = similarity.shape
    if k == 0:
        return similarity.new_empty((rows, 0), dtype=torch.int64)
    values, index = similarity.topk(min(k + 1, columns), sorted=True)
    top = index[:, :k]
    if (tied := (values[:, 1:] == values[:, :-1]).any(1)).any():  # topk had a choice: of which ones, or of their order
        top[tied] = _top_by_index(similarity[tied], values[tied], top[tied])
    return top


def _top_by_index(similarity: Tensor, values: Tensor, top: Tensor) -> Tensor:
    """The same for rows with equal entries, from one choice of them: their values, of one more where there is one."""
    k = top.shape[1]
    kept, last = top.sort(dim=1).values, values[:, k - 1]
    if k < similarity.shape[1] and (undecided := last == values[:, k]).any():
        kept[undecided] = _lowest_of_equal(similarity[undecided], last[undecided, None], k)
    order = similarity.gather(1, kept).sort(dim=1, descending=True, stable=True).indices
    return kept.gather(1, order)


def _lowest_of_equal(similarity: Tensor, kth: Tensor, k: int) -> Tensor:
    """Indices, ascending, of all entries above the k-th largest of their row and of the first that equal it."""
    above, equal = similarity > kth, similarity == kth
    room = k - above.sum(1, keepdim=True)
    keep = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return keep.nonzero()[:, 1].view(-1, k)
