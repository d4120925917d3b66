"""Retrieval measures: Recall@K, nearest neighbours, utilization. Exact, in bounded memory, on any device.

Queries are taken in chunks whose similarity block has at most 2^24 entries. On a CPU the similarities of a set
with itself are computed whole where they fit 1 GiB: that is half the work, as they are symmetric. Half-
precision embeddings are compared in fp32, fp64 ones in fp64; autocast, TF32 and the bf16 modes of fp32 matrix
products are switched off meanwhile, since they reorder neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .. import backend
from ..batch.chunked import LARGEST_WHOLE
from ..ops.gram import gram

__all__ = ["nearest", "recall_at_k", "utilization"]

_BLOCK = 2**24


def recall_at_k(
    embeddings: Tensor,
    labels: Tensor,
    k: int | Sequence[int] = (1, 2, 4, 8),
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
) -> dict[int, float]:
    """Share of queries with an example of their class among their K nearest neighbours.

    Similarity is the cosine. Without a gallery every example queries all others: it is left out by its index,
    so an exact duplicate of it stays a candidate. Of equally similar candidates the one of lower index comes
    first. A query whose class has no other example among the candidates is a miss at every K, and still
    counts in the mean. Where K exceeds the number of candidates, all of them are searched.

    Args:
        embeddings: [n, d] floating point, the queries. Need not be normalised.
        labels: [n] integer.
        k: one K or several, each at least 1.
        gallery: [m, d] floating point, the candidates (as in In-Shop); None: the queries themselves.
        gallery_labels: [m] integer, with a gallery and only then.

    Returns:
        {K: recall in [0, 1]}, in the order of `k`.

    Raises:
        TypeError: an argument is no tensor, or is of the wrong dtype.
        ValueError: wrong shape, empty, NaN or Inf, different devices, or K below 1.

    Source: the protocol of the paper's Section 4.1.
    """
    ks = _check_ks(k)
    _check_embeddings("embeddings", embeddings)
    _check_labels("labels", labels, embeddings, "embeddings")
    if (gallery is None) != (gallery_labels is None):
        missing = "gallery" if gallery is None else "gallery_labels"
        raise ValueError(f"{missing} is missing: gallery and gallery_labels come together")
    if gallery is not None and gallery_labels is not None:
        _check_embeddings("gallery", gallery, like=embeddings)
        _check_labels("gallery_labels", gallery_labels, gallery, "gallery")
    candidate_labels = labels if gallery_labels is None else gallery_labels

    hits = torch.zeros(len(ks), dtype=torch.int64, device=embeddings.device)
    for rows, neighbours in _neighbour_chunks(embeddings, max(ks), gallery):
        right = candidate_labels[neighbours] == labels[rows, None]
        hits += torch.stack([right[:, :one].any(1).sum() for one in ks])
    return {one: count / len(embeddings) for one, count in zip(ks, hits.tolist(), strict=True)}


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
    (k,) = _check_ks(k)
    _check_embeddings("embeddings", embeddings)
    if gallery is not None:
        _check_embeddings("gallery", gallery, like=embeddings)
    return torch.cat([neighbours for _, neighbours in _neighbour_chunks(embeddings, k, gallery)])


def utilization(queries: Tensor, embeddings: Tensor, mixed: Tensor | Iterable[Tensor] | None = None) -> float:
    """How far unseen examples lie from the embeddings that training has used: u(Q, X), lower is closer.

    Mean over the queries of the smallest squared Euclidean distance to any row of X, where X is `embeddings`
    and, if given, `mixed`. Vectors are taken as they are: mixed embeddings may well be shorter than 1.

    Args:
        queries: [q, d] floating point, the embedded test set.
        embeddings: [n, d] floating point, the clean training embeddings.
        mixed: further rows of X: [m, d], or an iterable of such chunks, taken one at a time, so that a set of
            mixed embeddings need never exist as a whole.

    Returns:
        u(Q, X), at least 0.

    Raises:
        TypeError: an argument is no tensor, or is of the wrong dtype.
        ValueError: wrong shape, empty, NaN or Inf, or different devices.

    Source: the paper's section on the utilization of the embedding space.
    """
    _check_embeddings("queries", queries)
    _check_embeddings("embeddings", embeddings, like=queries)
    chunks: Iterable[Tensor] = () if mixed is None else (mixed,) if isinstance(mixed, Tensor) else mixed
    with _full_precision(queries.device):
        q = queries.detach().to(_compute_dtype(queries, embeddings))
        closest = _squared_distances(q, embeddings)
        for chunk in chunks:
            _check_embeddings("mixed", chunk, like=queries)
            closest = torch.minimum(closest, _squared_distances(q, chunk))
    return closest.double().mean().item()


def _neighbour_chunks(queries: Tensor, k: int, gallery: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """(rows, their neighbours [rows, min(k, candidates)]) for one chunk of queries after the other."""
    dtype = _compute_dtype(queries, *([] if gallery is None else [gallery]))
    q = normalize(queries.detach().to(dtype))
    candidates = q if gallery is None else normalize(gallery.detach().to(dtype))
    k = min(k, len(candidates) - (gallery is None))
    for rows, similarity in _similarities(q, candidates):
        if gallery is None:
            similarity.diagonal(rows.start).fill_(-torch.inf)
        yield rows, _top(similarity, k)


def _similarities(q: Tensor, candidates: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(rows, their similarities [rows, candidates]) for one chunk of queries after the other."""
    is_whole = candidates is q and len(q) ** 2 * q.element_size() <= LARGEST_WHOLE
    whole = gram(q) if is_whole and backend.choose(q.device) == "cpu" else None
    step = max(1, _BLOCK // len(candidates))
    for start in range(0, len(q), step):
        rows = slice(start, min(start + step, len(q)))
        if whole is not None:
            yield rows, whole[rows]
        else:
            with _full_precision(q.device):
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
    last, kept = values[:, k - 1], index[:, :k].sort(dim=1).values
    if k < columns and (undecided := last == values[:, k]).any():  # topk had a choice
        kept[undecided] = _lowest_of_equal(similarity[undecided], last[undecided, None], k)
    order = similarity.gather(1, kept).sort(dim=1, descending=True, stable=True).indices
    return kept.gather(1, order)


def _lowest_of_equal(similarity: Tensor, kth: Tensor, k: int) -> Tensor:
    """Indices, ascending, of all entries above the k-th largest of their row and of the first that equal it."""
    above, equal = similarity > kth, similarity == kth
    room = k - above.sum(1, keepdim=True)
    keep = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return keep.nonzero()[:, 1].view(-1, k)


def _squared_distances(q: Tensor, x: Tensor) -> Tensor:
    """[q] squared distance of each row of q to the closest row of x.

    The closest row is found by x.q - |x|^2/2; its distance is then taken from the difference of the two
    vectors, as |q|^2 + |x|^2 - 2 x.q would cancel where the distance is small.
    """
    x = x.detach().to(q.dtype)
    half_norms = x.square().sum(1) / 2
    step = max(1, _BLOCK // len(x))
    closest = [(part @ x.T - half_norms).argmax(1) for part in q.split(step)]
    return torch.cat([(part - x[index]).square().sum(1) for part, index in zip(q.split(step), closest, strict=True)])


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no reduced-precision fp32 matrix products inside."""
    # Read one by one: torch.get_float32_matmul_precision() raises once a user has set one of these.
    units = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [unit.fp32_precision for unit in units]
    try:
        for unit in units:
            unit.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for unit, precision in zip(units, before, strict=True):
            unit.fp32_precision = precision


def _check_ks(k: int | Sequence[int]) -> list[int]:
    ks = [k] if isinstance(k, int | float) else list(k)
    if not ks or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in ks):
        raise ValueError(f"k is {k!r}; expected an integer of at least 1, or several")
    return list(dict.fromkeys(ks))


def _check_embeddings(name: str, x: Tensor, like: Tensor | None = None) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; expected a floating point tensor [n, d]")
    if not x.is_floating_point():
        raise TypeError(f"{name} has dtype {x.dtype}; expected floating point")
    if x.dim() != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"{name} has shape {list(x.shape)}; expected [n, d] with n, d >= 1")
    if like is not None and (x.shape[1] != like.shape[1] or x.device != like.device):
        raise ValueError(
            f"{name} has shape {list(x.shape)} on {x.device}; "
            f"expected {like.shape[1]} columns on {like.device}, like the queries"
        )
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).any(1).sum())
        raise ValueError(f"{name} has NaN or Inf in {bad} of {len(x)} rows; expected finite numbers")


def _check_labels(name: str, labels: Tensor, x: Tensor, x_name: str) -> None:
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} is a {type(labels).__name__}; expected an integer tensor [n]")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {labels.dtype}; expected an integer dtype")
    if labels.shape != (len(x),):
        raise ValueError(f"{name} has shape {list(labels.shape)}; expected [{len(x)}], one a row of {x_name}")
    if labels.device != x.device:
        raise ValueError(f"{name} is on {labels.device}; expected {x.device}, like {x_name}")
