"""How far unseen examples lie from what training has used."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..ops.precision import full_precision
from .checks import check_embeddings
from .compute import chunk_size, compute_dtype


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
    check_embeddings("queries", queries)
    check_embeddings("embeddings", embeddings, like=queries)
    chunks: Iterable[Tensor] = () if mixed is None else (mixed,) if isinstance(mixed, Tensor) else mixed
    with full_precision(queries.device):
        q = queries.detach().to(compute_dtype(queries, embeddings))
        closest = _squared_distances(q, embeddings)
        for chunk in chunks:
            check_embeddings("mixed", chunk, like=queries)
            closest = torch.minimum(closest, _squared_distances(q, chunk))
    return closest.double().mean().item()


def _squared_distances(q: Tensor, x: Tensor) -> Tensor:
    """[q] squared distance of each row of q to the closest row of x.

    The closest row is found by x.q - |x|^2/2; its distance is then taken from the difference of the two
    vectors, as |q|^2 + |x|^2 - 2 x.q would cancel where the distance is small.
    """
    x = x.detach().to(q.dtype)
    half_norms = x.square().sum(1) / 2
    step = chunk_size(len(x))
    closest = [(part @ x.T - half_norms).argmax(1) for part in q.split(step)]
    return torch.cat([(part - x[index]).square().sum(1) for part, index in zip(q.split(step), closest, strict=True)])
