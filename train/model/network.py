"""A backbone whose output is the last feature map, and the head that pools and embeds it.

They are kept apart because mixing happens between or around them: feature mixup mixes what `backbone` returns
and encodes with `head`, input mixup encodes with the whole model.
"""

from __future__ import annotations

from torch import Tensor, nn

from metrix_ext.heads import PoolingHead

from .backbones import resnet_backbone, small_backbone


class EmbeddingModel(nn.Module):
    """Images [n, 3, H, W] to unit-norm embeddings [n, d]."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def build(arch: str, weights: str, embedding_size: int, pool: str) -> EmbeddingModel:
    """`weights`: "none", "imagenet", or the path of a state dict of that torchvision model."""
    if arch == "small":
        backbone, channels = small_backbone()
    else:
        backbone, channels = resnet_backbone(arch, weights)
    return EmbeddingModel(backbone, PoolingHead(channels, embedding_size, pool))
