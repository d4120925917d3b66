"""MAP@R and R-precision: they look as deep into the ranking of a query as there are right answers."""

from __future__ import annotations

from torch import Tensor

from .measures import measures


def map_at_r(
    embeddings: Tensor, labels: Tensor, gallery: Tensor | None = None, gallery_labels: Tensor | None = None
) -> float:
    """Mean average precision at R: the mean over the queries of

        1/R  sum_{i=1..R}  P(i) [rank i is right],     P(i) = right ones among the first i, divided by i

    where R is the number of candidates of the query's class, the query itself left out. 1 if every query finds
    its whole class first.

    Arguments, similarity, ties and exceptions are those of :func:`recall_at_k`. A query whose class has no other
    example among the candidates (R = 0) counts as 0, as it is a miss of Recall@K. pytorch-metric-learning leaves
    such queries out of its mean.

    Returns:
        In [0, 1].

    Source: Musgrave, Belongie, Lim: A Metric Learning Reality Check, ECCV 2020, Section 3.2.
    """
    found: float = measures(embeddings, labels, ("map_at_r",), 1, gallery, gallery_labels)["map_at_r"]
    return found


def r_precision(
    embeddings: Tensor, labels: Tensor, gallery: Tensor | None = None, gallery_labels: Tensor | None = None
) -> float:
    """The mean over the queries of the share of their class among their R nearest neighbours.

    R, arguments, queries alone in their class and source are those of :func:`map_at_r`.

    Returns:
        In [0, 1].
    """
    found: float = measures(embeddings, labels, ("r_precision",), 1, gallery, gallery_labels)["r_precision"]
    return found
