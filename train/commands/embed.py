"""Embeddings of all images of a folder. What has been computed when it is stopped is not computed again."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from ..data.decoding import decode
from ..data.sources.folder import images as images_in
from ..data.transforms import Transform
from ..errors import Interrupted, UserError
from ..evaluation import embed
from ..experiment import pick_device
from ..interrupt import Interrupt
from ..options.values import at_least
from ..output import embeddings as output
from ..output.parts import Parts, fingerprint
from ..restore import Restored, restore
from . import shared

DAMAGED = -1  # instead of the number of an image


def parser() -> argparse.ArgumentParser:
    p = shared.parser("embed.py", "Write the embeddings of all images of a folder. Started again, it goes on.")
    p.add_argument("images", metavar="IMAGES", type=Path, help="a folder; the images may lie at any depth in it")
    shared.add_out(p, required=True, text=f"a file {' or '.join(output.SUFFIXES)} with the paths and the embeddings")
    p.add_argument("--skip-damaged", action="store_true", help="leave damaged images out (default: one ends it)")
    p.add_argument(
        "--part", type=at_least(1), default=4096, metavar="N",
        help="images between two saves of what there is (default: 4096)",
    )  # fmt: skip
    shared.add_machine(p)
    return p


def run(args: argparse.Namespace) -> None:
    output.require_suffix(args.out)
    shared.require_new(args.out, args.overwrite)
    restored = restore(args.checkpoint, pick_device(args))
    files = listed(args.images)
    parts = Parts(args.out.with_name(f"{args.out.name}.parts"), fingerprint([restored.path, *files], args.part))
    kept, embeddings = compute(restored, files, parts, args)
    output.write(args.out, [str(files[i].relative_to(args.images)) for i in kept], embeddings)
    parts.remove()
    damaged = len(files) - len(kept)
    print(f"{args.out}: {len(kept)} embeddings" + (f", {damaged} damaged images left out" if damaged else ""))


def listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give one with images")
    files = sorted(images_in(folder, Counter()))
    if not files:
        raise UserError(f"{folder} holds no images")
    return files


class Files(Dataset[tuple[Tensor, int]]):
    """Each image with its number or, if it cannot be decoded and may be skipped, a black one with DAMAGED."""

    def __init__(self, files: list[Path], transform: Transform, image_size: int, skip_damaged: bool) -> None:
        self.files = files
        self.transform = transform
        self.image_size = image_size
        self.skip_damaged = skip_damaged

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        try:
            return self.transform(decode(self.files[i])), i
        except UserError:
            if not self.skip_damaged:
                raise
            return torch.zeros(3, self.image_size, self.image_size, dtype=torch.uint8), DAMAGED


def compute(
    restored: Restored, files: list[Path], parts: Parts, args: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images that could be decoded, and their embeddings [n, d]; `parts` holds them as they come."""
    images = Files(files, restored.transform, restored.config["image_size"], args.skip_damaged)
    starts = range(0, len(files), args.part)
    with Interrupt() as interrupt:
        try:
            for number, start in enumerate(tqdm(starts, unit="part", disable=None)):
                if number not in parts:
                    some = Subset(images, range(start, min(start + args.part, len(files))))
                    found = embed(restored.model, shared.loader(some, args), restored.device, "none", interrupt)
                    parts.add(number, *without_damaged(*found))
        except Interrupted as stopped:
            told = f"{stopped}; the same command goes on from where it was"
            raise Interrupted(told, stopped.signal_number) from None
    return parts.joined(len(starts))


def without_damaged(embeddings: Tensor, numbers: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of images, and their embeddings."""
    kept = numbers != DAMAGED
    return numbers[kept].cpu().numpy(), embeddings[kept].cpu().numpy()
