"""Missing and damaged images, found before a run and left out of it (--skip-damaged)."""

from __future__ import annotations

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


def damaged(whole: Collection, workers: int) -> np.ndarray:
    """bool [n]: the images that cannot be decoded. Each is decoded once, by so many processes."""
    if isinstance(whole.images, np.ndarray):
        return np.zeros(len(whole.images), bool)
    files = [Path(file) for file in whole.images]  # type: ignore[arg-type]
    loader = DataLoader(Damage(files), batch_size=64, num_workers=workers, worker_init_fn=ignore_in_worker)
    return np.concatenate([batch.numpy() for batch in loader])


def present(whole: Collection) -> np.ndarray:
    """bool [n], all true. Raises UserError if an image is not there: a list does not tell, and an epoch is late."""
    if not isinstance(whole.images, np.ndarray):
        missing = [file for file in whole.images if not Path(file).exists()]  # type: ignore[arg-type]
        if missing:
            count = "1 image is" if len(missing) == 1 else f"{len(missing):,} images are"
            raise UserError(f"{count} missing, for example {missing[0]}: put them there, or give --skip-damaged")
    return np.ones(len(whole.images), bool)
