"""Which classes are trained on, which choose the model, and which training never sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import reading
from .images import TEST, TRAIN, VALIDATION, Collection
from .sources import listed, tables

HALF_OF = {part: listed.HALF_OF[part] for part in ("train", "val", "test")}  # as split files call them


@dataclass(frozen=True)
class Partition:
    """Indices of classes; all images of a class are of one part."""

    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray = field(default_factory=lambda: np.array([], int))


def own(whole: Collection, split: str, seed: int) -> Partition:
    """As the data set lists its halves; where it does not, by `split`, "order" or "random"."""
    return halved(len(whole.names), split, seed) if whole.halves is None else by_half(whole.halves)


def chosen(whole: Collection, split: str, seed: int) -> Partition:
    """By "order", "random" or a split file. Raises UserError if the data set has a gallery of its own.

    A split file is text with a line for the name of each class to train on, all others being unseen, or a .csv of
    class,split with train, val or test for every class.
    """
    if whole.gallery is not None:
        raise UserError(f"--split {split} does not go with a data set that has queries and a gallery of its own")
    if split in ("order", "random"):
        return halved(len(whole.names), split, seed)
    path = Path(split)
    return by_half(from_table(path, whole.names) if path.suffix.lower() == ".csv" else from_names(path, whole.names))


def halved(count: int, split: str, seed: int) -> Partition:
    """The first half of the classes trains: of the zero-shot protocol's order, or of a permutation by the seed."""
    order = np.random.default_rng(seed).permutation(count) if split == "random" else np.arange(count)
    return Partition(order[: count // 2], order[count // 2 :])


def by_half(halves: np.ndarray) -> Partition:
    return Partition(*(np.flatnonzero(halves == half) for half in (TRAIN, TEST, VALIDATION)))


def from_names(path: Path, names: Sequence[str]) -> np.ndarray:
    with reading(path, "names of classes to train on"):
        training = [name for line in listed.lines(path) if (name := line.strip())]
    require_known(path, training, names)
    return np.where(np.isin(names, training), TRAIN, TEST)


def from_table(path: Path, names: Sequence[str]) -> np.ndarray:
    half_of = dict[str, str]()
    for name, part in tables.read(path, ("class", "split")):
        if part not in HALF_OF:
            raise UserError(f"{path} puts class {name} into {part}: expected one of {', '.join(HALF_OF)}")
        if half_of.setdefault(str(name), HALF_OF[part]) != HALF_OF[part]:
            raise UserError(f"{path} puts class {name} into two parts")
    require_known(path, half_of, names)
    if missing := [name for name in names if name not in half_of]:
        raise UserError(f"{path} does not say where {some(missing)} of the data set belongs")
    return np.array([half_of[name] for name in names])


def require_known(path: Path, given: Iterable[str], names: Sequence[str]) -> None:
    known = set(names)
    if unknown := [name for name in given if name not in known]:
        raise UserError(f"{path} names {some(unknown)}, which the data set does not have; it has {some(names)}")


def some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"class {names[0]}{rest}"


def carve(partition: Partition, fraction: float, seed: int) -> Partition:
    """A fraction of the training classes, at least 2, chosen by the seed, validates instead; test stays as it is."""
    if not fraction:
        return partition
    if not 0 < fraction < 1:
        raise UserError(f"--val-fraction {fraction} is not between 0 and 1")
    if len(partition.validation):
        raise UserError(f"--val-fraction {fraction} does not go with a split that has validation classes of its own")
    count = len(partition.train)
    held_out = np.random.default_rng((seed, 1)).permutation(count) < max(2, round(fraction * count))
    return replace(partition, train=partition.train[~held_out], validation=partition.train[held_out])
