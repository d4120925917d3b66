"""How similar pairs of one class are, and pairs of two classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

BINS = 200
ROWS = 256  # examples at a time, against all others


@dataclass(frozen=True)
class Similarities:
    """Pairs by their cosine: how many lie in each of BINS equal parts of [-1, 1]."""

    positive: np.ndarray  # [BINS] int64, of one class
    negative: np.ndarray  # [BINS] int64, of two classes

    @staticmethod
    def edges() -> np.ndarray:
        """[BINS + 1]"""
        return np.linspace(-1, 1, BINS + 1)


def pair_similarities(
    embeddings: Tensor,
    labels: Tensor,
    seed: int,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    most: int = 4096,
) -> Similarities:
    """Of all pairs of two different examples, or with a gallery of all pairs of a query and a candidate.

    Where there are more than `most` queries, whole classes of them are drawn at random up to about that number, so that
    positive pairs are not thinned out; without a gallery their pairs are among themselves.

    Args:
        embeddings: [n, d] floating point. Need not be normalised.
        labels: [n] integer.
        gallery, gallery_labels: [m, d] and [m].
    """
    kept = whole_classes(labels.cpu(), most, seed).to(embeddings.device)
    x, labels = normalize(embeddings[kept].float()), labels[kept]
    others = x if gallery is None else normalize(gallery.float())
    other_labels = labels if gallery_labels is None else gallery_labels
    counts = torch.zeros(2, BINS, dtype=torch.int64)
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        similarity, same = x[rows] @ others.T, labels[rows, None] == other_labels
        once = torch.ones_like(same) if gallery is not None else torch.ones_like(same).triu(start + 1)
        for side, pairs in enumerate((same & once, ~same & once)):
            bins = ((similarity[pairs] + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
            counts[side] += bins.bincount(minlength=BINS).cpu()
    positive, negative = counts.numpy()
    return Similarities(positive, negative)


def whole_classes(labels: Tensor, most: int, seed: int) -> Tensor:
    """[kept] indices of the examples of classes that are drawn until there are `most`, or of all."""
    if len(labels) <= most:
        return torch.arange(len(labels))
    classes, counts = labels.unique(return_counts=True)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(classes)))
    wanted = int((counts[order].cumsum(0) < most).sum()) + 1
    return torch.isin(labels, classes[order[:wanted]]).nonzero()[:, 0]
