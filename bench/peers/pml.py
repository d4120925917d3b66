"""pytorch-metric-learning, where its formula is the same: clean multi-similarity without a miner, Recall@1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..problems.embeddings import EmbeddingBatch
from ..problems.retrieval import RetrievalSet
from ..timing.isolate import Unavailable


def pair_sums(problem: EmbeddingBatch, labels: Tensor) -> Callable[[Tensor], Tensor]:
    if problem.pairs != "clean":
        raise Unavailable("it has no mixed losses")
    try:
        from pytorch_metric_learning.losses import MultiSimilarityLoss
    except ImportError as error:
        raise Unavailable(str(error)) from None
    loss = MultiSimilarityLoss(alpha=18, beta=75, base=0.77)
    return lambda embeddings: loss(embeddings, labels)


def recall(problem: RetrievalSet, embeddings: Tensor, labels: Tensor) -> Callable[[], list[float]]:
    """AccuracyCalculator with the package's own neighbour search, which needs no faiss."""
    if problem.ks != (1,):
        raise Unavailable("AccuracyCalculator gives Recall@1 only, as precision_at_1")
    try:
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        from pytorch_metric_learning.utils.inference import CustomKNN
    except ImportError as error:
        raise Unavailable(str(error)) from None
    name = "precision_at_1"
    neighbours = CustomKNN(CosineSimilarity(), batch_size=1024)
    calculator = AccuracyCalculator(include=(name,), k=1, knn_func=neighbours, device=torch.device(embeddings.device))
    return lambda: [calculator.get_accuracy(embeddings, labels)[name]]
