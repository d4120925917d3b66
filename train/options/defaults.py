"""The defaults that depend on the data set, the machine and the network."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..data.registry import DATA_SETS, DataSet
from ..errors import UserError
from .recipes import recipe
from .values import WITH_PROXIES


def resolve(args: argparse.Namespace, device_type: str, processes: int = 1) -> None:
    """Fills in what was left open, and refuses what does not go together."""
    data_set = DATA_SETS[args.dataset]
    check_path(args, data_set)
    choose_network(args, data_set, device_type)
    for name, value in recipe(args.dataset, args.loss, args.weights != "none").items():
        if_open(args, name, value)
    check_loss(args)
    light = device_type == "cpu" and not data_set.from_files
    if_open(args, "workers", 0 if light else min(8, os.cpu_count() or 1))
    check_batch(args)
    if args.sync_bn:
        check_sync_bn(args, device_type, processes)


def if_open(args: argparse.Namespace, name: str, value: Any) -> None:
    if getattr(args, name) is None:
        setattr(args, name, value)


def choose_network(args: argparse.Namespace, data_set: DataSet, device_type: str) -> None:
    if_open(args, "arch", "resnet50" if device_type != "cpu" or data_set.from_files else "small")
    small = args.arch == "small"
    if_open(args, "weights", "imagenet" if data_set.photographs and not small else "none")
    if small and args.weights != "none":
        raise UserError("--weights goes with the other networks: --arch small has no pretrained weights")
    if_open(args, "image_size", 32 if small else 224 if data_set.photographs else 64)
    if args.image_size > data_set.largest_image:
        most = f"{args.dataset} have up to {data_set.largest_image} pixels"
        raise UserError(f"--image-size {args.image_size} is too large: {most}")
    if_open(args, "embedding_size", 128 if small else 512)


def check_path(args: argparse.Namespace, data_set: DataSet) -> None:
    if args.data is not None and not data_set.needs_path:
        others = " or ".join(f"--dataset {name}" for name, other in DATA_SETS.items() if other.needs_path)
        raise UserError(f"--data goes with {others}; {args.dataset} needs none")


def check_loss(args: argparse.Namespace) -> None:
    if args.miner != "none" and args.loss in WITH_PROXIES:
        raise UserError(f"--miner {args.miner} picks pairs of examples: --loss {args.loss} compares them with proxies")
    if args.mixed_loss_option and args.mixed_loss is None:
        raise UserError("--mixed-loss-option goes with --mixed-loss")
    if args.memory_size:
        check_memory(args)
    if args.miner_epsilon is not None and args.miner != "ms":
        raise UserError(f"--miner-epsilon goes with --miner ms, not {args.miner}")


def check_memory(args: argparse.Namespace) -> None:
    what = f"--memory-size {args.memory_size}"
    if args.memory_size < args.batch_size:
        raise UserError(f"{what} is less than a batch of {args.batch_size}")
    if set(args.mix) - {"embed"}:
        raise UserError(f"{what} remembers embeddings, which only --mix embed or none can use")
    if args.loss in ("proxynca", "proxynca++"):
        raise UserError(f"{what} has nothing to remember: --loss {args.loss} compares examples with proxies only")
    if args.miner != "none" or args.mix_warmup_epochs:
        raise UserError(f"{what} goes with neither --miner nor --mix-warmup-epochs")


def check_batch(args: argparse.Namespace) -> None:
    if args.images_per_class and args.batch_size % args.images_per_class:
        raise UserError(f"--batch-size {args.batch_size} is no multiple of --images-per-class {args.images_per_class}")


def check_sync_bn(args: argparse.Namespace, device_type: str, processes: int) -> None:
    what = "--sync-bn"
    if args.freeze_bn:
        raise UserError(f"{what} goes with --no-freeze-bn: statistics that are frozen are the same in all processes")
    if "input" in args.mix or args.micro_batch is not None:
        other = "--mix input" if "input" in args.mix else "--micro-batch"
        raise UserError(f"{what} does not go with {other}: the processes would run the network unequally often")
    if processes == 1:
        raise UserError(f"{what} is for several processes: start them by torchrun")
    if device_type == "cpu":
        raise UserError(f"{what} needs GPUs: torch.nn.SyncBatchNorm takes no tensors of a CPU")


def mixing_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of Metrix, less those that were left to its own defaults."""
    pairs = args.pairs
    if pairs is None and args.loss == "pa" and set(args.mix) != {"embed"}:
        pairs = ("pos-neg",)
    options = {
        "pairs": pairs,
        "strength": args.strength,
        "lam": args.lam,
        "alpha": args.alpha,
        "hard_negatives": args.hard_negatives,
        "renormalize": args.renormalize,
        "mixed_margins": args.mixed_margins,
        "gradient_share": args.gradient_share,
    }
    return {name: value for name, value in options.items() if value is not None}
