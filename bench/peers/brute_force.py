"""Recall@K in plain PyTorch: all similarities at once, then topk."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..problems.retrieval import RetrievalSet


def recall(problem: RetrievalSet, embeddings: Tensor, labels: Tensor) -> Callable[[], list[float]]:
    def measure() -> list[float]:
        x = F.normalize(embeddings)
        similarity = (x @ x.T).fill_diagonal_(-torch.inf)
        right = labels[similarity.topk(max(problem.ks)).indices] == labels[:, None]
        return [float(right[:, :one].any(1).float().mean()) for one in problem.ks]

    return measure
