"""A backbone whose output is the last feature map, and the head that pools and embeds it.

They are kept apart because mixing happens between or around them: feature mixup mixes what `backbone` returns
and encodes with `head`, input mixup encodes with the whole model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metrix_ext.heads import PoolingHead

from ..data.statistics import Statistics
from . import backbones


class LinearHead(PoolingHead):
    """A PoolingHead without the l2 norm at its end."""

    def normalize(self, projected: Tensor) -> Tensor:
        return projected.float() if projected.dtype in (torch.float16, torch.bfloat16) else projected


class EmbeddingModel(nn.Module):
    """Images [n, 3, H, W], normalised by `statistics`, to embeddings [n, d], of unit norm but for a LinearHead."""

    def __init__(self, backbone: nn.Module, head: nn.Module, statistics: Statistics) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.statistics = statistics

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def build(
    arch: str,
    weights: str,
    embedding_size: int,
    pool: str,
    image_size: int = 224,
    tokens: str = "map",
    normalize: bool = True,
) -> EmbeddingModel:
    """A backbone (see `backbones.build`) with a PoolingHead for its channels, or a LinearHead."""
    backbone = backbones.build(arch, weights, image_size, tokens)
    head = (PoolingHead if normalize else LinearHead)(backbone.channels, embedding_size, pool)
    return EmbeddingModel(backbone.module, head, backbone.statistics)
