"""What feature and input mixup mix and encode, and what the loop oracle says of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metrix_ext as mx
from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, DIM, Case, Tensors, leaf
from tests.support.loss_tests import gradients

Encode = Callable[[Tensor], Tensor]
CHANNELS = 5


def feature_map(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(n, CHANNELS, 3, 2, generator=generator, dtype=torch.float64)


def pooling_head(pool: str, seed: int = 0) -> nn.Module:
    """The package's head with weights of our own, so that the bias is not 0."""
    head = mx.heads.PoolingHead(in_channels=CHANNELS, embedding_size=DIM, pool=pool).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return head


def head_by_hand(head: nn.Module, pool: str) -> Encode:
    """Pool, linear, l2 norm, written out on the head's own parameters."""
    weight = next(p for p in head.parameters() if p.ndim == 2)
    bias = next(p for p in head.parameters() if p.ndim == 1)

    def encode(f: Tensor) -> Tensor:
        positions = f.flatten(2)
        pooled = torch.zeros_like(positions[:, :, 0])
        if "avg" in pool:
            pooled = pooled + positions.sum(2) / positions.shape[2]
        if "max" in pool:
            pooled = pooled + positions.max(2).values
        z = pooled @ weight.T + bias
        return z / torch.linalg.vector_norm(z, dim=1, keepdim=True)

    return encode


class SmallModel(nn.Module):
    """A smooth model from images or features to unit vectors, one example independent of the others."""

    def __init__(self, channels: int, seed: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 2)
        self.linear = nn.Linear(4, DIM)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.linear(torch.tanh(self.conv(x)).mean((2, 3))), dim=1)


def mixed_source(
    criterion: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: object,
    source: Tensor,
    encode: nn.Module,
    seed: int | None = None,
) -> Tensors:
    """The loss, and its gradients to the anchors, the source, the proxies and the model, each on its own."""
    x, source = leaf(x), leaf(source)
    value = criterion.mixed_loss(x, labels, pairs=pairs, lam=lam, source=source, encode=encode, seed=seed)
    return gradients(value, [x, source, *criterion.loss.parameters(), *encode.parameters()])


def expected_source(
    case: Case,
    loss: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    source: Tensor,
    encode: Encode,
    parameters: Iterable[Tensor],
    hard_negatives: int | None = None,
) -> Tensors:
    """The same by the loops."""
    x, source = leaf(x), leaf(source)
    proxies = [leaf(p) for p in loss.parameters()]
    options = {"source": source, "encode": encode, "hard_negatives": hard_negatives}
    value = loop_oracle.mixed_loss(case.loss, x, labels, pairs, lam, *proxies, **options)  # type: ignore[arg-type]
    return gradients(value, [x, source, *proxies, *parameters])


def not_refused(names: Sequence[str], sets: Sequence[str]) -> list[tuple[str, str]]:
    """Without the proxies as anchors where the anchor is mixed: they have no feature map and no image."""
    product = itertools.product(names, sets)
    return [(name, s) for name, s in product if not (CASES[name].has_proxies and s.startswith("anc-"))]


def assert_source_like_loops(
    criterion: nn.Module,
    case: Case,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    source: Tensor,
    encode: nn.Module,
    by_hand: Encode | None = None,
    drawn_with: int | None = None,
    hard_negatives: int | None = None,
) -> None:
    """
    Args:
        by_hand: what the loops encode with, on the parameters of ``encode``; without it ``encode`` itself.
        drawn_with: the seed with which the criterion draws ``lam``; without it the criterion is given ``lam``.
        hard_negatives: for the loops; the criterion has its own.
    """
    given = lam if drawn_with is None else None
    got = mixed_source(criterion, x, labels, pairs, given, source, encode, drawn_with)
    taken = by_hand or encode, encode.parameters(), hard_negatives
    assert_close(got, expected_source(case, criterion.loss, x, labels, pairs, lam, source, *taken), rtol=1e-8)
