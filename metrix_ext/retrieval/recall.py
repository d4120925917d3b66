"""Recall@K."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import as_labels, check_embeddings, check_ks
from .neighbours import neighbour_chunks


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
    ks = check_ks(k)
    check_embeddings("embeddings", embeddings)
    labels = as_labels("labels", labels, embeddings)
    if (gallery is None) != (gallery_labels is None):
        missing = "gallery" if gallery is None else "gallery_labels"
        raise ValueError(f"{missing} is missing: gallery and gallery_labels come together")
    if gallery is not None and gallery_labels is not None:
        check_embeddings("gallery", gallery, like=embeddings)
        gallery_labels = as_labels("gallery_labels", gallery_labels, gallery, "gallery")
    candidate_labels = labels if gallery_labels is None else gallery_labels

    hits = torch.zeros(len(ks), dtype=torch.int64, device=embeddings.device)
    for rows, neighbours in neighbour_chunks(embeddings, max(ks), gallery):
        right = candidate_labels[neighbours] == labels[rows, None]
        hits += torch.stack([right[:, :one].any(1).sum() for one in ks])
    return {one: count / len(embeddings) for one, count in zip(ks, hits.tolist(), strict=True)}
