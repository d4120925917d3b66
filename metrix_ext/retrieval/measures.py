"""Several measures from one search for neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import check_ks, check_names, check_sets
from .clustering import nmi
from .neighbours import neighbour_chunks
from .scores import average_precision_at_r, hit_at_k, r_precision

RANKED = ("recall_at_k", "map_at_r", "r_precision")
NAMES = (*RANKED, "nmi")


def measures(
    embeddings: Tensor,
    labels: Tensor,
    names: Sequence[str] = RANKED,
    k: int | Sequence[int] = (1, 2, 4, 8),
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
) -> dict[str, Any]:
    """The measures of these names; the neighbours of every query are searched for once.

    Each is what the function of its name returns: :func:`recall_at_k`, :func:`map_at_r`, :func:`r_precision`,
    :func:`nmi`. The last one clusters the queries, with or without a gallery.

    Args:
        embeddings, labels, gallery, gallery_labels: as of :func:`recall_at_k`.
        names: some of "recall_at_k", "map_at_r", "r_precision", "nmi".
        k: of recall_at_k.

    Returns:
        {name: float, or for recall_at_k {K: float}}, in the order of `names`.

    Raises:
        TypeError, ValueError: as :func:`recall_at_k`; a name that is none of these.
        ImportError: "nmi" without scikit-learn.
    """
    names = check_names(names, NAMES)
    ks = check_ks(k)
    labels, candidate_labels = check_sets(embeddings, labels, gallery, gallery_labels)
    found: dict[str, Any] = dict.fromkeys(names)
    if ranked := [name for name in names if name in RANKED]:
        found |= _ranked(ranked, ks, embeddings, labels, gallery, candidate_labels)
    if "nmi" in names:
        found["nmi"] = nmi(embeddings, labels)
    return found


def _ranked(
    names: list[str], ks: list[int], embeddings: Tensor, labels: Tensor, gallery: Tensor | None, candidates: Tensor
) -> dict[str, Any]:
    """The means over the queries of what their rankings are worth. `candidates`: the labels of the candidates."""
    relevant = _count_relevant(labels, candidates) - (1 if gallery is None else 0)
    depth = torch.full_like(relevant, max(ks) if "recall_at_k" in names else 0)
    if set(names) - {"recall_at_k"}:
        depth = depth.maximum(relevant)
    totals = {name: torch.zeros((), dtype=torch.float64, device=embeddings.device) for name in names}
    for rows, neighbours in neighbour_chunks(embeddings, depth, gallery):
        right = candidates[neighbours] == labels[rows, None]
        for name in names:
            totals[name] = totals[name] + _scores(name, right, relevant[rows], ks).sum(0)
    means = {name: [value / len(labels) for value in total.tolist()] for name, total in totals.items()}
    return {name: dict(zip(ks, of, strict=True)) if name == "recall_at_k" else of[0] for name, of in means.items()}


def _scores(name: str, right: Tensor, relevant: Tensor, ks: list[int]) -> Tensor:
    if name == "recall_at_k":
        return hit_at_k(right, ks)
    return average_precision_at_r(right, relevant) if name == "map_at_r" else r_precision(right, relevant)


def _count_relevant(labels: Tensor, candidates: Tensor) -> Tensor:
    """[n] how many candidates have the label of each query."""
    ordered = candidates.sort().values
    return torch.searchsorted(ordered, labels, right=True) - torch.searchsorted(ordered, labels)
