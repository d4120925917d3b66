"""metrix_ext, with lambda drawn in each call as in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import metrix_ext as mx

from ..problems.embeddings import EmbeddingBatch
from ..problems.features import FeatureBatch
from ..problems.problem import Step
from ..problems.retrieval import RetrievalSet


def pair_sums(problem: EmbeddingBatch, labels: Tensor) -> Callable[[Tensor], Tensor]:
    if problem.pairs == "clean":
        loss = mx.losses.MultiSimilarityLoss()
        return lambda embeddings: loss(embeddings, labels)
    lam = "pair" if problem.lam is None else problem.lam
    criterion = mx.Metrix(
        mx.losses.MultiSimilarityLoss(),
        mix="embed",
        pairs=problem.pairs,
        lam=lam,
        renormalize=problem.renormalize,
        strength=1.0,
    )
    return lambda embeddings: criterion.mixed_loss(embeddings, labels, problem.pairs, seed=problem.n)


def feature(
    problem: FeatureBatch, embeddings: Tensor, labels: Tensor, head: mx.heads.PoolingHead
) -> Callable[[Tensor], Tensor]:
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs=problem.pairs, strength=1.0)

    def loss(features: Tensor) -> Tensor:
        return criterion.mixed_loss(embeddings, labels, problem.pairs, source=features, encode=head, seed=problem.n)

    return loss


def recall(problem: RetrievalSet, embeddings: Tensor, labels: Tensor) -> Callable[[], list[float]]:
    return lambda: list(mx.retrieval.recall_at_k(embeddings, labels, problem.ks).values())


def with_backend(step: Step, name: str) -> Step:
    """The same on the backend of that name.

    Raises:
        RuntimeError: it cannot run here.
    """

    def on_backend(part: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with mx.use_backend(name):
                part()

        return run

    with mx.use_backend(name):
        return Step({part: on_backend(run) for part, run in step.parts.items()}, step.result)


def in_a_graph(loss: Callable[[], Tensor], leaves: list[Tensor]) -> Step:
    """Forward and backward in one CUDA graph, which is replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            for leaf in leaves:
                leaf.grad = None
            loss().backward()
    torch.cuda.current_stream().wait_stream(side)
    for leaf in leaves:
        leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss()
        value.backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    return Step({"both": graph.replay}, lambda: [value.detach(), *gradients], allocates=False)
