"""Embeddings of a data set, and what plain pixels find in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from metrix_ext.retrieval import recall_at_k

from .data.images import ImageSet
from .interrupt import Interrupt


@torch.inference_mode()
def embed(
    model: nn.Module, loader: DataLoader, device: torch.device, amp: bool, interrupt: Interrupt
) -> tuple[Tensor, Tensor]:
    """Embeddings [n, d] and labels [n] of all images, on the device."""
    model.eval()
    embeddings, labels = [], []
    for images, targets in interrupt.batches(loader):
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            embeddings.append(model(images.to(device, memory_format=torch.channels_last)).float())
        labels.append(targets.to(device))
    return torch.cat(embeddings), torch.cat(labels)


def pixel_recall(images: ImageSet) -> float:
    """Recall@1 of mean-centred pixels: what can be found with no learning at all."""
    pixels = np.stack([np.asarray(images.picture(i)) for i in range(len(images))])
    flat = torch.from_numpy(pixels).flatten(1).float()
    return recall_at_k(flat - flat.mean(0), torch.from_numpy(images.labels), k=1)[1]
