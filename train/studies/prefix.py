"""A pretrained network in two pieces: what stays as it is, whose output is computed once, and what learns."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..data.sources import npz
from ..files import replacing
from ..model import backbones

ARCH = "efficientnet-lite0"
BLOCKS = {"head": 0, "last block": 1, "last five blocks": 5}  # that learn, with what comes after them
CHUNK = 64


class Rest(nn.Module):
    """The last blocks of the network, and the convolution that follows them, as its extract_features has them."""

    def __init__(self, network: nn.Module, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(network._blocks[len(network._blocks) - blocks :])
        self.last = nn.ModuleList((network._conv_head, network._bn1)) if blocks else None
        self.activation = network._swish

    def forward(self, x: Tensor) -> Tensor:
        if self.last is None:
            return x
        for block in self.blocks:
            x = block(x)
        convolution, norm = self.last
        return self.activation(norm(convolution(x)))


def network(image_size: int) -> tuple[backbones.Backbone, nn.Module]:
    backbone = backbones.build(ARCH, "imagenet", image_size)
    return backbone, backbone.module.network.eval()


def rest(trained: str, image_size: int) -> tuple[nn.Module, int]:
    """What learns behind the frozen prefix, with batch norm as it is, and the channels that it gives."""
    backbone, whole = network(image_size)
    return Rest(whole, BLOCKS[trained]).eval(), backbone.channels


@torch.inference_mode()
def _outputs(pixels: np.ndarray, trained: str, image_size: int, flipped: bool) -> np.ndarray:
    backbone, whole = network(image_size)
    found = []
    for begin in tqdm(range(0, len(pixels), CHUNK), desc=f"frozen part for {trained!r}", disable=None):
        images = torch.from_numpy(pixels[begin : begin + CHUNK]).permute(0, 3, 1, 2).float()
        images = F.interpolate(images.flip(3) if flipped else images, (image_size, image_size), mode="bilinear")
        x = backbone.statistics.to_input(images, torch.device("cpu"))
        if trained == "head":
            x = whole.extract_features(x).mean((2, 3), keepdim=True)  # all that an average-pooling head sees
        else:
            x = whole._swish(whole._bn0(whole._conv_stem(x)))
            for block in whole._blocks[: len(whole._blocks) - BLOCKS[trained]]:
                x = block(x)
        found.append(x.contiguous().half().numpy())
    return np.concatenate(found)


def maps(data: Path, trained: str, image_size: int, cache: Path, flips: bool = False) -> list[Path]:
    """Files of float16 [n, c, h, w], of the images and with flips of the mirrored ones; made where they are missing."""
    content = hashlib.sha256(data.read_bytes()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    paths = []
    for flipped in (False, True)[: 1 + flips]:
        name = f"{content}-{ARCH}-{image_size}-{trained.replace(' ', '-')}{'-flipped' if flipped else ''}.npy"
        path = cache / name
        if not path.exists():
            images = np.asarray(npz.load(str(data), 0).images)
            with replacing(path) as file:
                np.save(file, _outputs(rgb(images), trained, image_size, flipped))
        paths.append(path)
    return paths


def rgb(images: np.ndarray) -> np.ndarray:
    return images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)
