"""A miner's pairs as a mask of positives and negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.tracing import values_are_known


def mask_of_pairs(
    indices_tuple: Any, row_order: Tensor, column_order: Tensor, labels: Tensor, column_labels: Tensor, own: bool
) -> Tensor:
    """A miner's pairs, in the order of the batch: [m, n] int8, 1 positive, -1 negative, 0 neither.

    Args:
        indices_tuple: (anchors, positives, negatives) or (anchors, positives, anchors, negatives).
        row_order, column_order: where each anchor and each example stood in what the caller gave.
        labels, column_labels: of the anchors and the examples, in the caller's order.
        own: anchors and examples are the same, so that a pair of equal indices is one example with itself.

    Raises:
        TypeError, ValueError: these are no indices, or (looked at on a CPU) they contradict the labels.
    """
    if not isinstance(indices_tuple, tuple | list) or len(indices_tuple) not in (3, 4):
        raise ValueError(
            "indices_tuple: expected (anchors, positives, negatives) or (anchors, positives, anchors, negatives)"
        )
    indices = [_checked(index, row_order.device) for index in indices_tuple]
    a1, p, a2, n = indices if len(indices) == 4 else (*indices[:2], indices[0], indices[2])
    for anchors, others in ((a1, p), (a2, n)):
        if anchors.shape != others.shape:
            raise ValueError(
                f"indices_tuple: got {len(others)} indices with {len(anchors)} anchors, expected one for each anchor"
            )
    if all(values_are_known(t) for t in (labels, column_labels, *indices)):
        _check_values(a1, p, labels, column_labels, own, positive=True)
        _check_values(a2, n, labels, column_labels, own, positive=False)
    mask = row_order.new_zeros((len(row_order), len(column_order)), dtype=torch.int8)
    row, column = row_order.argsort(), column_order.argsort()
    mask[row[a1], column[p]] = 1
    mask[row[a2], column[n]] = -1
    return mask


def _checked(index: Any, device: torch.device) -> Tensor:
    """As int64: uint8 would be read as a mask."""
    if not isinstance(index, Tensor):
        raise TypeError(f"indices_tuple: got {type(index).__name__}, expected integer tensors")
    if index.layout != torch.strided:
        raise TypeError(f"indices_tuple: got a tensor of layout {index.layout}, expected a dense one")
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"indices_tuple: got {index.dtype}, expected integers")
    if index.dim() != 1:
        raise ValueError(f"indices_tuple: got {list(index.shape)}, expected [number of pairs]")
    if index.device != device:
        raise ValueError(f"indices_tuple: is on {index.device}, expected {device} as embeddings")
    return index.long()


def _check_values(
    anchors: Tensor, others: Tensor, labels: Tensor, column_labels: Tensor, own: bool, positive: bool
) -> None:
    for index, count in ((anchors, len(labels)), (others, len(column_labels))):
        outside = (index < 0) | (index >= count)
        if outside.any():
            raise ValueError(f"indices_tuple: got {int(index[outside][0])}, expected 0 to {count - 1}")
    wrong = (labels[anchors] == column_labels[others]) != positive
    if own and positive:
        wrong |= anchors == others
    if wrong.any():
        a, other = int(anchors[wrong][0]), int(others[wrong][0])
        side, relation = ("positive", "of the same class") if positive else ("negative", "of another class")
        raise ValueError(
            f"indices_tuple: got {other} as a {side} of {a}, expected another example {relation} as the labels say"
        )
