"""Damaged images, found before a run and left out of it (--skip-damaged)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..interrupt import ignore_in_worker
from .decoding import decode
from .images import Collection


class Damage(Dataset[bool]):
    """Whether each of the files cannot be decoded."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> bool:
        try:
            decode(self.files[i])
        except UserError:
            return True
        return False


def without_damaged(whole: Collection, workers: int) -> tuple[Collection, list[Path]]:
    """The images that can be decoded, and the files that cannot. Each is decoded once, by so many processes."""
    if isinstance(whole.images, np.ndarray):
        return whole, []
    files = [Path(file) for file in whole.images]  # type: ignore[arg-type]
    loader = DataLoader(Damage(files), batch_size=64, num_workers=workers, worker_init_fn=ignore_in_worker)
    damaged = np.concatenate([batch.numpy() for batch in loader])
    return only(whole, files, ~damaged), [file for file, bad in zip(files, damaged, strict=True) if bad]


def only(whole: Collection, files: list[Path], kept: np.ndarray) -> Collection:
    """Without the other files, and without the classes that have none left."""
    classes, labels = np.unique(whole.labels[kept], return_inverse=True)
    names = [whole.names[c] for c in classes]
    return replace(whole, images=[files[i] for i in np.flatnonzero(kept)], labels=labels, names=names)
