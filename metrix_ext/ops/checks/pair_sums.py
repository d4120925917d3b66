"""The arguments of pair_sums."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...terms.pair_sets import PAIR_SETS
from ..arguments import PairSumsArguments
from ..tracing import values_are_known
from .tensors import check_floating, check_tensor

# What is no number to compute with.
INDICES = {"relations.positives": torch.int64, "relations.self_index": torch.int64, "relations.mask": torch.int8}


def check_floats(**tensors: Tensor | None) -> Iterable[Tensor | None]:
    """By name what is computed with, where it is given."""
    for name, tensor in tensors.items():
        if tensor is not None:
            check_floating(name, tensor)
    return tensors.values()


def check_pair_sums(a: PairSumsArguments) -> None:
    if a.similarity.dim() != 2:
        raise ValueError(f"similarity: got {list(a.similarity.shape)}, expected [anchors, examples]")
    if not isinstance(a.first_row, int | torch.SymInt):
        raise TypeError(f"first_row: got {type(a.first_row).__name__}, expected a whole number")
    if a.pairs != "clean" and a.pairs not in PAIR_SETS:
        raise ValueError(f"pairs: got {a.pairs!r}, expected 'clean' or one of {', '.join(PAIR_SETS)}")
    (m, n), device = a.similarity.shape, a.similarity.device
    with_anchor = a.with_anchor
    matrix = (m, n) if with_anchor else (a.rows, n)
    is_window = not with_anchor and (a.first_row, matrix[0]) != (0, n)
    if with_anchor and a.first_row != 0:
        raise ValueError(f"first_row: got {a.first_row}, expected 0 with pairs={a.pairs!r}")
    for name, (tensor, shape, wanted) in _expected(a, matrix, with_anchor, is_window).items():
        if (tensor is not None) != wanted:
            raise ValueError(f"{name}: {'missing' if wanted else 'not used'} with pairs={a.pairs!r}")
        if tensor is not None:
            check_tensor(name, tensor, shape, INDICES.get(name), device, "similarity")
    if is_window:
        _check_window(a, *matrix)


def _expected(
    a: PairSumsArguments, matrix: tuple[int, int], with_anchor: bool, is_window: bool
) -> dict[str, tuple[Tensor | None, tuple[int, ...], bool]]:
    """By name a tensor, its shape, and whether it is wanted; matrix is the shape of lam and gram by pairs."""
    m, n = a.similarity.shape
    mixed, with_norms = a.pairs != "clean", a.gram is not None
    with_own_row = with_anchor and (m != n or a.self_similarity is not None)
    expected: dict[str, tuple[Tensor | None, tuple[int, ...], bool]] = {
        "relations.positives": (a.positives, (m, 2), True),
        "relations.self_index": (a.self_index, (m,), True),
        "relations.mask": (a.mask, (m, n), a.mask is not None),
        "gram": (a.gram, matrix, mixed and with_norms),
        "sqnorm": (a.sqnorm, (n,), with_norms and (with_own_row or is_window or a.sqnorm is not None)),
        "self_similarity": (a.self_similarity, (m,), with_own_row),
        "self_sqnorm": (a.self_sqnorm, (m,), with_own_row and with_norms),
    }
    if not mixed:
        expected["lam"] = (a.lam, (), False)
    elif not a.lam_is_scalar:
        expected["lam"] = (a.lam, matrix, True)
    return expected


def _check_window(a: PairSumsArguments, rows: int, n: int) -> None:
    """The rows [first_row, first_row + rows) of n, which have to contain the ranges of all positives."""
    if a.pairs not in ("pos-neg", "pos-pos") or a.mask is not None:
        raise ValueError(
            f"lam, gram, first_row: got {rows} rows from {a.first_row} on, expected {n} rows with pairs={a.pairs!r}"
            f"{'' if a.mask is None else ' and a mask'}"
        )
    if not 0 <= a.first_row <= n - rows:
        raise ValueError(f"first_row: got {a.first_row}, expected 0 to {n - rows} with {rows} of {n} rows")
    if values_are_known(a.positives):
        begin, end = a.positives.unbind(1)
        outside = (begin < end) & ((begin < a.first_row) | (end > a.first_row + rows))
        if outside.any():
            raise ValueError(
                f"relations.positives: got {a.positives[outside][0].tolist()}, "
                f"expected columns from {a.first_row} to {a.first_row + rows}, which are the rows of lam and gram"
            )
