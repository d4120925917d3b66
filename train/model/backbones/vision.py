"""torchvision's classification networks up to their pooling, with its weights by name."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from ...data.statistics import IMAGENET, SYMMETRIC, Statistics
from ...errors import UserError, one_line
from . import weights as files
from .backbone import Backbone, measured, unknown
from .tokens import as_map

FIRST = "IMAGENET1K_V1"  # for ResNet-50 what the paper starts from
AFTER_MAP = ("avgpool", "dropout", "classifier", "fc", "heads")
# They were trained on images from -1 to 1, and torchvision's own forward pass comes back to that from its statistics.
OF_TENSORFLOW = ("googlenet", "inception_v3")


def backbone(arch: str, weights: str, image_size: int, tokens: str) -> Backbone:
    network = untrained(arch, image_size)
    transformer = isinstance(network, models.VisionTransformer)
    module = Tokens(network, tokens) if transformer else trunk(network)
    if weights != "none":
        load(network if transformer else module, arch, weights, image_size)
    return measured(arch, module, image_size, statistics(arch))


def statistics(arch: str) -> Statistics:
    return SYMMETRIC if arch in OF_TENSORFLOW else IMAGENET


def untrained(arch: str, image_size: int) -> nn.Module:
    known = models.list_models(models)
    if arch not in known:
        raise unknown("torchvision", arch, known)
    options: dict[str, Any] = {"init_weights": True, "aux_logits": False} if arch in OF_TENSORFLOW else {}
    if arch.startswith("vit_"):
        options = {"image_size": image_size}  # its positions are learnt one by one
    try:
        return models.get_model(arch, weights=None, **options)
    except Exception as error:
        raise UserError(f"--arch {arch} takes no images of {image_size} pixels ({one_line(error)})") from None


def trunk(network: nn.Module) -> nn.Sequential:
    """All that comes before the pooling, under its own names."""
    parts = takewhile(lambda part: part[0] not in AFTER_MAP, network.named_children())
    layers = OrderedDict((n, nn.Sequential(*m) if isinstance(m, nn.ModuleList) else m) for n, m in parts)
    if isinstance(network, models.DenseNet):
        layers["relu"] = nn.ReLU()  # a function in its forward pass
    return nn.Sequential(layers)


class Tokens(nn.Module):
    """A VisionTransformer's tokens after its last layer norm, as a map or the class token (see `tokens`)."""

    def __init__(self, network: models.VisionTransformer, kind: str) -> None:
        super().__init__()
        self.network = network
        self.network.heads = nn.Identity()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        patches = self.network._process_input(images)
        first = self.network.class_token.expand(images.shape[0], -1, -1)
        return as_map(self.network.encoder(torch.cat([first, patches], dim=1)), self.kind, prefix=1)


def load(module: nn.Module, arch: str, weights: str, image_size: int) -> None:
    """Into the network or its trunk, by the name of the weights or from a file."""

    def prepare(state: files.State) -> files.State:
        own = without_classifier(state)
        if isinstance(module, models.VisionTransformer) and "encoder.pos_embedding" in own:
            return interpolate_embeddings(image_size, module.patch_size, own)
        return own

    published = models.get_model_weights(arch)
    name = FIRST if weights == "imagenet" else weights
    if name in published.__members__:
        files.fit(module, prepare(download(published[name])))
    elif weights == "imagenet" or not looks_like_path(weights):
        names = ", ".join(one.name for one in published)
        raise UserError(f"torchvision has no weights {name} for {arch}, but {names}; or give the path of a state dict")
    else:
        files.load(module, weights, f"a state dict of torchvision's {arch}", prepare)


def without_classifier(state: files.State) -> dict[str, Tensor]:
    """Under the names of today: DenseNets were published with a dot before the number of a layer, as in norm.1."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", n): t for n, t in state.items()}
    return {n: t for n, t in renamed.items() if not n.startswith((*AFTER_MAP, "head.", "aux", "AuxLogits"))}


def looks_like_path(weights: str) -> bool:
    path = Path(weights)
    return path.exists() or len(path.parts) > 1 or path.suffix != ""


def download(weights: models.WeightsEnum) -> files.State:
    """Downloaded once. torchvision would unpickle them by default."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return weights.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:  # no network, a full disk, a broken download
        place = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(weights.url).path).name)
        raise UserError(
            f"{weights.url} cannot be had ({one_line(error)}): download it elsewhere and put it at {place}, "
            "or give --weights PATH of it, or --weights none to start from random ones"
        ) from None
