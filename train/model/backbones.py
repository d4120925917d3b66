"""Networks from images [n, 3, H, W] to their last feature map [n, c, h, w], each with its number of channels c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

from ..errors import UserError, one_line
from ..files import load_tensors, reading


def resnet_backbone(arch: str, weights: str) -> tuple[nn.Module, int]:
    network = models.get_model(arch, weights=None)
    if weights == "imagenet":
        network.load_state_dict(imagenet_weights(arch))
    elif weights != "none":
        what = f"a state dict of torchvision's {arch}"
        stored = load_tensors(weights, what)
        with reading(weights, what):
            network.load_state_dict(stored)
    channels = network.fc.in_features
    return nn.Sequential(*list(network.children())[:-2]), channels


def imagenet_weights(arch: str) -> Mapping[str, Any]:
    """torchvision's, downloaded once. It would unpickle them by default."""
    try:
        return models.get_model_weights(arch).DEFAULT.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:  # no network, a full disk, a broken download
        raise UserError(
            f"torchvision's weights for {arch} cannot be had ({one_line(error)}): give --weights PATH of their state "
            "dict, or --weights none to start from random ones"
        ) from None


def small_backbone(
    widths: tuple[int, ...] = (32, 64, 128, 128), strides: tuple[int, ...] = (1, 2, 2, 1)
) -> tuple[nn.Module, int]:
    """A ResNet for small images on a CPU: 32 x 32 pixels become a 4 x 4 x 128 feature map.

    Tried on glyphs, 8 epochs of the multi-similarity loss without mixup, Recall@1 on the unseen classes: 73.4
    as it is; 75.1 with 256 channels at the end, but feature mixup mixes all pairs of feature maps and takes
    twice as long then; 50.9 with 256 channels on a 2 x 2 map.
    """
    layers: list[nn.Module] = [conv_bn(3, widths[0], stride=2), nn.ReLU()]
    before = widths[0]
    for width, stride in zip(widths, strides, strict=True):
        shortcut = conv_bn(before, width, stride, kernel=1) if (stride, before) != (1, width) else None
        layers.append(BasicBlock(before, width, stride, shortcut))
        before = width
    return nn.Sequential(*layers), before


def conv_bn(before: int, after: int, stride: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))
