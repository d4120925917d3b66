"""Results of a long computation, kept part by part in a folder until it has come to its end."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import reading, replacing


class Parts:
    """The parts of one computation: those of another one, of another fingerprint, are not found.

    Each is a file that is there whole or not at all, of numbers [m] and embeddings [m, d].
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def path(self, number: int) -> Path:
        return self.folder / f"{self.fingerprint}-{number:06}.npz"

    def __contains__(self, number: int) -> bool:
        return self.path(number).exists()

    def add(self, number: int, numbers: np.ndarray, embeddings: np.ndarray) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            with replacing(self.path(number)) as file:
                np.savez(file, numbers=numbers, embeddings=embeddings)
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written ({error.strerror}): give another --out") from None

    def joined(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and embeddings of the first `count` parts."""
        found = [self._read(self.path(number)) for number in range(count)]
        return np.concatenate([numbers for numbers, _ in found]), np.concatenate([rows for _, rows in found])

    def _read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        with reading(path, "a part of the embeddings"), np.load(path, allow_pickle=False) as stored:
            return stored["numbers"], stored["embeddings"]

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def fingerprint(files: Iterable[Path], size: int) -> str:
    """Another one if the name, the size or the time of any file has changed, or the size of the parts."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    for path in files:
        status = os.stat(path)
        digest.update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
