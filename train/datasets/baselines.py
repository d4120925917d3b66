"""How hard a data set is before anything has been learnt from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from metrix_ext.retrieval import recall_at_k

from ..data import splits
from ..evaluation import pixel_recall
from ..model.backbones import lite

ARCH = "efficientnet-lite0"
CHUNK = 64  # images at a time


def baselines(path: Path, image_size: int) -> str:
    """Recall@1 among half of the classes, those that run.py does not train on with --split-seed 0."""
    unseen = splits.load("npz", str(path), image_size).test
    pixels = np.stack([np.asarray(unseen.picture(i)) for i in range(len(unseen))])
    frozen = recall_at_k(features(pixels, image_size), torch.from_numpy(unseen.labels), k=1)[1]
    return (
        f"Recall@1 among {len(unseen)} images of {len(unseen.names)} classes: raw pixels "
        f"{100 * pixel_recall(unseen):.1f}, frozen {ARCH} at {image_size} pixels {100 * frozen:.1f}"
    )


@torch.inference_mode()
def features(pixels: np.ndarray, image_size: int) -> Tensor:
    """[n, d] of norm 1, from uint8 [n, h, w, 3]: the averages of the last feature map."""
    backbone = lite.backbone(ARCH, "imagenet", image_size)
    network = backbone.module.eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.statistics.mean, backbone.statistics.std))
    found = []
    for part in torch.from_numpy(pixels).permute(0, 3, 1, 2).split(CHUNK):
        images = F.interpolate(part.float() / 255, size=(image_size, image_size), mode="bilinear", antialias=True)
        found.append(network((images - mean) / std).mean((2, 3)))
    return F.normalize(torch.cat(found), dim=1)
