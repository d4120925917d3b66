"""Batches of the two halves."""

from __future__ import annotations

import argparse

import torch
from torch.utils.data import DataLoader

from ..errors import UserError
from ..interrupt import ignore_in_worker
from . import transforms
from .images import ImageSet
from .sampler import BalancedBatches


def training_loader(images: ImageSet, args: argparse.Namespace) -> DataLoader:
    """Balanced batches, or, with 0 images per class, plain random ones."""
    images.transform = transforms.training(args.dataset, args.image_size)
    if args.images_per_class:
        try:
            batches = BalancedBatches(images.labels, args.batch_size, args.images_per_class, args.seed)
        except ValueError as error:
            raise UserError(f"{error}: change --batch-size or --images-per-class") from None
        return DataLoader(images, batch_sampler=batches, **common(args))
    if len(images) < args.batch_size:
        raise UserError(f"--batch-size {args.batch_size} is more than the {len(images)} training images")
    return DataLoader(images, batch_size=args.batch_size, shuffle=True, drop_last=True, **common(args))


def evaluation_loader(images: ImageSet, args: argparse.Namespace) -> DataLoader:
    images.transform = transforms.evaluation(args.dataset, args.image_size)
    return DataLoader(images, batch_size=args.batch_size, **common(args))


def common(args: argparse.Namespace) -> dict[str, object]:
    return {
        "num_workers": args.workers,
        "worker_init_fn": ignore_in_worker,
        "pin_memory": args.device.startswith("cuda"),
        "generator": torch.Generator().manual_seed(args.seed),  # orders the images, seeds the workers
    }


def set_epoch(loader: DataLoader, epoch: int) -> None:
    if isinstance(loader.batch_sampler, BalancedBatches):
        loader.batch_sampler.set_epoch(epoch)
