"""Batches of several images of each of several classes, so that every anchor has positives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BalancedBatches(Sampler[list[int]]):
    """batch_size // images_per_class classes a batch, images_per_class images of each.

    Classes come from a shuffled queue that is refilled when it cannot fill a batch, so a batch never has a
    class twice and all classes come equally often. A class with fewer images than images_per_class repeats
    some. The batches of an epoch follow from (seed, epoch) alone. An epoch has as many batches as it takes to
    draw as many images as there are.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, images_per_class: int, seed: int) -> None:
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.images_per_class = images_per_class
        self.classes_per_batch = batch_size // images_per_class
        if batch_size % images_per_class or images_per_class < 1:
            raise ValueError(f"batch size {batch_size} is no multiple of {images_per_class} images per class")
        if self.classes_per_batch > len(self.members):
            raise ValueError(
                f"a batch of {batch_size} with {images_per_class} images per class needs "
                f"{self.classes_per_batch} classes, there are {len(self.members)}"
            )
        self.seed = seed
        self.epoch = 0
        self.batches = max(1, len(labels) // batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        queue: list[int] = []
        for _ in range(self.batches):
            if len(queue) < self.classes_per_batch:
                queue = rng.permutation(len(self.members)).tolist()
            classes, queue = queue[: self.classes_per_batch], queue[self.classes_per_batch :]
            yield [int(i) for label in classes for i in self._draw(rng, self.members[label])]

    def _draw(self, rng: np.random.Generator, members: np.ndarray) -> np.ndarray:
        short = len(members) < self.images_per_class
        return rng.choice(members, self.images_per_class, replace=short)
