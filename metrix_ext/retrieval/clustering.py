"""How well clusters of the embeddings agree with the classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from ..terms.checks import check_whole
from .checks import as_labels, check_embeddings
from .compute import compute_dtype


def nmi(embeddings: Tensor, labels: Tensor, seed: int = 0) -> float:
    """Normalised mutual information of the classes and of as many k-means clusters of the normalised embeddings.

        NMI = 2 I(classes; clusters) / (H(classes) + H(clusters))

    Clusters depend on the random start of k-means: figures are comparable for one seed. They are computed on the CPU.

    Args:
        embeddings: [n, d] floating point, on any device. Need not be normalised.
        labels: [n] integer.
        seed: of the start, a k-means++ one.

    Returns:
        In [0, 1].

    Raises:
        TypeError, ValueError: as :func:`recall_at_k`.
        ImportError: scikit-learn is missing.

    Source: Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, Section 16.3.
    """
    check_embeddings("embeddings", embeddings)
    labels = as_labels("labels", labels, embeddings)
    seed = check_whole("seed", seed, least=0, most=2**32 - 1)
    cluster, metrics = _scikit_learn()
    points = normalize(embeddings.detach().to(compute_dtype(embeddings))).cpu().numpy()
    means = cluster.KMeans(n_clusters=len(labels.unique()), n_init=1, random_state=seed)
    return float(metrics.normalized_mutual_info_score(labels.cpu().numpy(), means.fit_predict(points)))


def _scikit_learn() -> tuple[Any, Any]:
    try:
        from sklearn import cluster, metrics
    except ImportError as error:
        raise ImportError(f"nmi needs scikit-learn ({error}): pip install 'metrix_ext[nmi]'") from None
    return cluster, metrics
