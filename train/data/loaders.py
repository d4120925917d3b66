"""Batches of the parts of a data set: pixels from 0 to 255, and labels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ..errors import UserError
from ..interrupt import ignore_in_worker
from ..processes import Processes
from ..randomness import seeds
from . import augment, transforms
from .images import ImageSet
from .registry import DATA_SETS
from .sampler import BalancedBatches, Batches, Choice, RandomBatches


class ArrayBatches:
    """Images that are in memory and of one size, a batch at a time: no worker and no work on single images.

    batches: gives the places of each batch; None: those of `own` in order, batch_size at a time, not augmented.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        batches: Batches | None = None,
        own: Sequence[int] = (),
    ) -> None:
        self.own = torch.tensor(own, dtype=torch.int64)
        self.batch_size, self.batches = batch_size, batches
        self.labels = torch.from_numpy(images.labels)
        pixels = torch.from_numpy(np.stack([np.asarray(images.stored(i)) for i in range(len(images))]))
        self.pixels = pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return -(-len(self.own) // self.batch_size) if self.batches is None else len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.batches is None:
            for part in self.own.split(self.batch_size):
                yield self.pixels[part], self.labels[part]
            return
        for batch in self.batches:
            index = torch.tensor([draw.index for draw in batch])
            images = augment.random_affine(self.pixels[index].float(), [draw.seed for draw in batch])
            yield images, self.labels[index]


Loader = DataLoader[Any] | ArrayBatches


def training_loader(
    images: ImageSet, args: argparse.Namespace, processes: Processes
) -> tuple[Loader, Batches]:
    """Balanced batches, or, with 0 images per class, plain random ones; and what says which come next."""
    batches = Batches(choice(images, args), args.seed, processes)
    if not DATA_SETS[args.dataset].photographs:
        return ArrayBatches(images, args.batch_size, batches), batches
    images.transform = transforms.training(args.image_size)
    return DataLoader(images, batch_sampler=batches, **common(args)), batches


def choice(images: ImageSet, args: argparse.Namespace) -> Choice:
    try:
        if args.images_per_class:
            return BalancedBatches(images.labels, args.batch_size, args.images_per_class, args.seed)
        return RandomBatches(len(images), args.batch_size, args.seed)
    except ValueError as error:
        raise UserError(f"{error}: change --batch-size or --images-per-class") from None


def evaluation_loader(
    images: ImageSet, args: argparse.Namespace, processes: Processes
) -> Loader:
    """Every image once, in order; of several processes each has one in so many."""
    own = processes.rows(len(images))
    if not DATA_SETS[args.dataset].photographs:
        return ArrayBatches(images, args.batch_size, own=own)
    images.transform = transforms.evaluation(args.dataset, args.image_size)
    return DataLoader(Subset(images, own), batch_size=args.batch_size, **common(args))


def common(args: argparse.Namespace) -> dict[str, object]:
    return {
        "num_workers": args.workers,
        "worker_init_fn": ignore_in_worker,
        "pin_memory": args.device.startswith("cuda"),
        # Of the workers' own seeds, which no image depends on: the state of the run stays as it is.
        "generator": torch.Generator().manual_seed(seeds(1, args.seed)[0]),
    }
