"""From what a rank calls a criterion with to what one process would call it with: rows of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..batch.checks import FLOATS, as_labels, check_embeddings, check_same_device
from ..mixing.arguments import seed_of
from .ranks import Ranks
from .sources import SourcesOfRanks

NONE = -1  # in the place of the number of rows of what is not given
MOST_INDICES = 4  # tensors of a miner


class Examples(NamedTuple):
    """Embeddings [n, d] and labels [n]."""

    embeddings: Tensor
    labels: Tensor

    @classmethod
    def checked(cls, names: tuple[str, str], embeddings: Any, labels: Any) -> Examples:
        check_embeddings(names[0], embeddings)
        return cls(embeddings, as_labels(names[1], labels, embeddings, names[0]))

    def of_ranks(self, ranks: Ranks, sizes: Sequence[int]) -> Examples:
        return Examples(ranks.rows(self.embeddings, sizes), ranks.all_gather(self.labels, sizes))


class Counts(NamedTuple):
    """What a rank tells the others first, so that all know how much they will receive.

    Attributes:
        accepted: whether its arguments are as they should be; if not, the others are zeros.
        rows, references: numbers of its embeddings and references; NONE where there are no references.
        size: d.
        dtype: of the embeddings, a place in FLOATS.
        indices: numbers of the indices in each tensor of a miner; NONE where there is no tensor.
    """

    accepted: int
    rows: int
    references: int
    size: int
    dtype: int
    indices: tuple[int, ...]

    @classmethod
    def of(cls, examples: Examples, references: Examples | None, indices: Sequence[Tensor]) -> Counts:
        n, d = examples.embeddings.shape
        lengths = [len(index) for index in indices] + [NONE] * (MOST_INDICES - len(indices))
        r = NONE if references is None else len(references.labels)
        return cls(1, n, r, d, FLOATS.index(examples.embeddings.dtype), tuple(lengths))

    @classmethod
    def refused(cls) -> Counts:
        return cls(0, 0, 0, 0, 0, (0,) * MOST_INDICES)

    def of_ranks(self, ranks: Ranks) -> list[Counts]:
        """Of every rank."""
        own = [self.accepted, self.rows, self.references, self.size, self.dtype, *self.indices]
        return [
            Counts(accepted, rows, references, size, dtype, tuple(indices))
            for accepted, rows, references, size, dtype, *indices in ranks.numbers(own)
        ]


def gathered(
    ranks: Ranks, embeddings: Any, labels: Any, arguments: dict[str, Any]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Embeddings, labels and arguments of a criterion, of all ranks.

    Indices of a miner then count the rows of all ranks. A source stays where it is, as a SourcesOfRanks.

    Raises:
        TypeError, ValueError: an argument is not as a loss takes it, or ranks do not go together.
        RuntimeError: another rank has raised one of these.
    """
    arguments = {name: value for name, value in arguments.items() if value is not None}
    try:
        if "ref_self" in arguments:
            raise ValueError("ref_self: cannot be given to GlobalBatch; a memory belongs inside, with gather=False")
        examples = Examples.checked(("embeddings", "labels"), embeddings, labels)
        references = _references(examples, arguments, itself=arguments.get("ref_emb") is embeddings)
        indices = _indices(arguments.get("indices_tuple"), examples.embeddings.device)
        seed = seed_of(arguments["seed"], examples.embeddings.device) if "seed" in arguments else None
    except (TypeError, ValueError):
        Counts.refused().of_ranks(ranks)
        raise
    counts = Counts.of(examples, references, indices).of_ranks(ranks)
    _check_counts(ranks, counts)
    sizes = of_candidates = [of_rank.rows for of_rank in counts]
    everything = examples.of_ranks(ranks, sizes)
    if references is not None:
        of_candidates = [of_rank.references for of_rank in counts]
        arguments["ref_emb"], arguments["ref_labels"] = references.of_ranks(ranks, of_candidates)
    elif "ref_emb" in arguments:
        arguments["ref_emb"], arguments["ref_labels"] = everything
    if indices:
        lengths = list(zip(*(of_rank.indices for of_rank in counts), strict=True))
        first_rows = [sum(of[: ranks.rank]) for of in (sizes, of_candidates)]
        is_candidate = (0, 1, 1) if len(indices) == 3 else (0, 1, 0, 1)
        arguments["indices_tuple"] = tuple(
            ranks.all_gather(index + first_rows[side], of_ranks)
            for index, side, of_ranks in zip(indices, is_candidate, lengths[: len(indices)], strict=True)
        )
    if "source" in arguments:
        arguments["source"] = SourcesOfRanks(arguments["source"], ranks, of_candidates)
    if seed is not None:
        arguments["seed"] = ranks.of_first(torch.as_tensor(seed))
    return *everything, arguments


def _references(examples: Examples, arguments: dict[str, Any], itself: bool) -> Examples | None:
    """None where there are none, or they are the examples themselves."""
    if ("ref_emb" in arguments) != ("ref_labels" in arguments):
        raise ValueError("ref_emb, ref_labels: one is given without the other")
    if "ref_emb" not in arguments or (itself and arguments["ref_labels"] is examples.labels):
        return None
    references = Examples.checked(("ref_emb", "ref_labels"), arguments["ref_emb"], arguments["ref_labels"])
    check_same_device("ref_emb", references.embeddings, examples.embeddings)
    return references


def _indices(indices_tuple: Any, device: torch.device) -> list[Tensor]:
    """A miner's tensors, as far as sending them needs it; the loss checks the rest."""
    if indices_tuple is None:
        return []
    if not isinstance(indices_tuple, tuple | list) or len(indices_tuple) not in (3, 4):
        raise ValueError(
            "indices_tuple: expected (anchors, positives, negatives) or (anchors, positives, anchors, negatives)"
        )
    for index in indices_tuple:
        if not isinstance(index, Tensor) or index.is_floating_point() or index.dtype == torch.bool or index.dim() != 1:
            raise TypeError("indices_tuple: expected integer tensors [number of pairs]")
        if index.device != device:
            raise ValueError(f"indices_tuple: is on {index.device}, expected {device} as embeddings")
    return [index.long() for index in indices_tuple]


def _check_counts(ranks: Ranks, counts: Sequence[Counts]) -> None:
    if refusing := [rank for rank, of_rank in enumerate(counts) if not of_rank.accepted]:
        raise RuntimeError(f"mx.distributed: rank {refusing[0]} has refused its arguments, see what it has raised")
    first = counts[0]
    for rank, of_rank in enumerate(counts):
        if (of_rank.size, of_rank.dtype) != (first.size, first.dtype):
            got, expected = (f"{FLOATS[of.dtype]} [n, {of.size}]" for of in (of_rank, first))
            raise ValueError(f"embeddings: got {got} on rank {rank}, expected {expected} as on rank 0")
        for name, own, wanted in (
            ("ref_emb", (of_rank.references,), (first.references,)),
            ("indices_tuple", of_rank.indices, first.indices),
        ):
            if [number == NONE for number in own] != [number == NONE for number in wanted]:
                raise ValueError(f"{name}: given on rank {rank} otherwise than on rank 0, expected the same on all")
