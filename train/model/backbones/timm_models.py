"""Networks of timm (https://github.com/huggingface/pytorch-image-models), which is installed with the extra `timm`."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from ...data.statistics import Statistics
from ...errors import UserError, one_line
from . import weights as files
from .backbone import Backbone, measured, unknown
from .tokens import CLASS, as_map


def backbone(name: str, weights: str, image_size: int, tokens: str) -> Backbone:
    """`weights` "imagenet" are those of timm's name, which may say more: vit_base_patch14_dinov2.lvd142m."""
    timm = package()
    if not timm.is_model(name):
        raise unknown("timm", name, timm.list_models())
    config = timm.get_pretrained_cfg(name)
    network = create(timm, name, weights == "imagenet", image_size, config)
    module = Features(network, tokens)
    if tokens == CLASS and not module.prefix:
        raise UserError(f"--arch timm:{name} has no class token: take its map")
    if weights not in ("none", "imagenet"):
        load(network, name, weights, config)
    return measured(f"timm:{name}", module, image_size, Statistics(tuple(config.mean), tuple(config.std)))


def package() -> Any:
    try:
        import timm
    except ImportError:
        raise UserError("--arch timm:NAME needs timm: pip install 'metrix_ext[timm]'") from None
    return timm


def create(timm: Any, name: str, pretrained: bool, image_size: int, config: Any) -> nn.Module:
    """Without a classifier. Networks whose parameters are of one size of images are built for that size."""
    size = {"img_size": image_size} if config.fixed_input_size else {}
    if pretrained and not (config.hf_hub_id or config.url):
        raise UserError(f"timm has no weights for {name}: give --weights PATH of a state dict, or --weights none")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **size)
    except Exception as error:
        if not pretrained:
            raise UserError(f"--arch timm:{name} takes no images of {image_size} pixels ({one_line(error)})") from None
        raise UserError(
            f"timm's weights for {name} cannot be had ({one_line(error)}): download {page(config)} elsewhere and give "
            "--weights PATH of it, or --weights none to start from random ones"
        ) from None


def page(config: Any) -> str:
    if not config.hf_hub_id:
        return config.url
    return f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}"


def load(network: nn.Module, name: str, path: str, config: Any) -> None:
    classifiers = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    # What makes a stored state dict fit, positions for another size of images among it, is a function by this name in
    # the file of most networks.
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", lambda state, _: state)

    def prepare(state: files.State) -> files.State:
        return adapt({n: t for n, t in state.items() if not n.startswith(tuple(f"{c}." for c in classifiers))}, network)

    files.load(network, path, f"a state dict of timm's {name}", prepare)


class Features(nn.Module):
    """What the network gives before its pooling, always [n, c, h, w] (see `tokens` for transformers)."""

    def __init__(self, network: nn.Module, tokens: str) -> None:
        super().__init__()
        self.network = network
        self.tokens = tokens
        self.prefix: int = getattr(network, "num_prefix_tokens", 0)
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.forward_features(images)
        if features.dim() == 3:
            return as_map(features, self.tokens, self.prefix)
        return features.permute(0, 3, 1, 2) if self.channels_last else features
