"""Recall@K."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .measures import measures


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
    found: dict[int, float] = measures(embeddings, labels, ("recall_at_k",), k, gallery, gallery_labels)["recall_at_k"]
    return found
