"""Embeddings of a data set, what is found with them, and what plain pixels find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrix_ext.retrieval import measures, recall_at_k

from .data.images import ImageSet
from .data.loaders import Loader
from .interrupt import Interrupt
from .model.network import EmbeddingModel
from .processes import ALONE, Processes
from .training.step import AMP


@dataclass
class Searched:
    """Images that are searched, and whose own embeddings do that: a gallery, where there is one, else the same ones."""

    queries: Loader
    gallery: Loader | None = None


@dataclass
class Found:
    embeddings: Tensor  # [n, d], of the queries
    labels: Tensor  # [n]
    recall: dict[str, float]  # Recall@K by K, from 0 to 1
    gallery: tuple[Tensor, Tensor] | None = None  # embeddings and labels of what was searched, where that is a gallery

    def others(self, names: Sequence[str]) -> dict[str, float]:
        """MAP@R and other measures by name."""
        if not names:
            return {}
        return measures(self.embeddings, self.labels, names, 1, *(self.gallery or ()))


@torch.inference_mode()
def embed(
    model: EmbeddingModel,
    loader: Loader,
    device: torch.device,
    amp: str,
    interrupt: Interrupt,
    processes: Processes = ALONE,
) -> tuple[Tensor, Tensor]:
    """Embeddings [n, d] and labels [n] of all images, on the device; each process embeds its share.

    amp: "none", "bf16" or "fp16".
    """
    model.eval()
    embeddings, labels = [], []
    for images, targets in interrupt.batches(loader):
        with torch.autocast(device.type, AMP.get(amp), enabled=amp in AMP):
            embeddings.append(model(model.statistics.to_input(images, device)).float())
        labels.append(targets.to(device))
    return processes.rows_of_all(torch.cat(embeddings)), processes.rows_of_all(torch.cat(labels))


def search(
    model: EmbeddingModel,
    searched: Searched,
    k: tuple[int, ...],
    device: torch.device,
    amp: str,
    interrupt: Interrupt,
    processes: Processes = ALONE,
) -> Found:
    """Recall@K of the queries. Embeddings that are not finite find nothing, and are the caller's to refuse."""
    embeddings, labels = embed(model, searched.queries, device, amp, interrupt, processes)
    if not bool(embeddings.isfinite().all()):
        return Found(embeddings, labels, {})
    gallery = None if searched.gallery is None else embed(model, searched.gallery, device, amp, interrupt, processes)
    recall = recall_at_k(embeddings, labels, k, *(gallery or ()))
    return Found(embeddings, labels, {str(at): value for at, value in recall.items()}, gallery)


def pixel_recall(images: ImageSet) -> float:
    """Recall@1 of mean-centred pixels: what can be found with no learning at all."""
    pixels = np.stack([np.asarray(images.picture(i)) for i in range(len(images))])
    flat = torch.from_numpy(pixels).flatten(1).float()
    return recall_at_k(flat - flat.mean(0), torch.from_numpy(images.labels), k=1)[1]
