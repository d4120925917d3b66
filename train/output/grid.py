"""Queries with the images that they find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metrix_ext.retrieval import nearest

from ..data.images import ImageSet


@dataclass(frozen=True)
class Neighbour:
    image: Image.Image
    name: str  # where it lies
    similarity: float  # its cosine with the query
    right: bool  # it has the class of the query


@dataclass(frozen=True)
class Query:
    image: Image.Image
    name: str
    neighbours: list[Neighbour]  # nearest first


def retrieval_grid(
    images: ImageSet,
    embeddings: Tensor,
    seed: int,
    queries: int = 10,
    neighbours: int = 8,
    gallery: tuple[ImageSet, Tensor] | None = None,
) -> list[Query]:
    """Queries drawn at random, whatever they find.

    Args:
        images, embeddings: [n, d], of the queries.
        queries, neighbours: how many, at most.
        gallery: images and embeddings [m, d] of the candidates; None: the queries, each without itself.
    """
    chosen = np.random.default_rng(seed).choice(len(images), min(queries, len(images)), replace=False)
    found_in, candidates = gallery or (images, embeddings)
    # A query that is among the candidates is left out by its index: one more is searched for, in case it is found.
    ranked = nearest(embeddings[chosen], neighbours + (gallery is None), gallery=candidates).tolist()
    rows = []
    for query, found in zip(chosen.tolist(), ranked, strict=True):
        kept = [i for i in found if gallery is not None or i != query][:neighbours]
        cosines = torch.cosine_similarity(embeddings[query, None].float(), candidates[kept].float()).tolist()
        label = images.names[images.labels[query]]
        shown = [
            Neighbour(found_in.picture(i), found_in.name(i), cosine, found_in.names[found_in.labels[i]] == label)
            for i, cosine in zip(kept, cosines, strict=True)
        ]
        rows.append(Query(images.picture(query), images.name(query), shown))
    return rows
