"""Which images make the batches of an epoch: functions of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from ..processes import ALONE, Processes
from ..randomness import Draw, seeds


class Choice(Protocol):
    """How the batches of an epoch are chosen; there are `batches` of them in each."""

    batches: int

    def of_epoch(self, epoch: int) -> Iterator[list[int]]: ...


class BalancedBatches:
    """batch_size // images_per_class classes a batch, images_per_class images of each.

    Classes come from a shuffled queue that is refilled when it cannot fill a batch, so a batch never has a
    class twice and all classes come equally often. A class with fewer images than images_per_class repeats
    some. An epoch has as many batches as it takes to draw as many images as there are.
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
        self.batches = max(1, len(labels) // batch_size)

    def of_epoch(self, epoch: int) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, epoch))
        queue: list[int] = []
        for _ in range(self.batches):
            if len(queue) < self.classes_per_batch:
                queue = rng.permutation(len(self.members)).tolist()
            classes, queue = queue[: self.classes_per_batch], queue[self.classes_per_batch :]
            yield [int(i) for label in classes for i in self._draw(rng, self.members[label])]

    def _draw(self, rng: np.random.Generator, members: np.ndarray) -> np.ndarray:
        short = len(members) < self.images_per_class
        return rng.choice(members, self.images_per_class, replace=short)


class RandomBatches:
    """Every image once an epoch in a random order, but for those that are left when no batch is full any more."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if count < batch_size:
            raise ValueError(f"a batch of {batch_size} is more than the {count} training images")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.batches = count // batch_size

    def of_epoch(self, epoch: int) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        for batch in range(self.batches):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


class Batches(Sampler[list[Draw]]):
    """The batches of an epoch from one of them on, each image with the seed of its augmentation.

    Of several processes each has its share of every batch.
    """

    def __init__(self, choice: Choice, seed: int, processes: Processes = ALONE) -> None:
        self.choice = choice
        self.seed = seed
        self.processes = processes
        self.epoch = self.first = 0

    def set_position(self, epoch: int, first: int) -> None:
        """What the next iteration gives: the batches of that epoch from number `first` on."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self.choice.batches - self.first

    def __iter__(self) -> Iterator[list[Draw]]:
        for number, batch in enumerate(self.choice.of_epoch(self.epoch)):
            if number >= self.first:
                of_images = seeds(len(batch), self.seed, self.epoch, number)
                draws = [Draw(index, seed) for index, seed in zip(batch, of_images, strict=True)]
                yield draws[self.processes.share(len(draws))]
