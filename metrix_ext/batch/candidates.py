"""From what a loss is called with to a Batch: norms, the order by class, a miner's pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.class_order import class_order
from ..ops.labels_below import labels_below
from ..ops.tracing import values_are_known
from ..ops.unit_rows import unit_norm, unit_rows
from ..terms.relations import Relations
from .batch import Batch, at_least_float32
from .checks import as_labels, check_embeddings, check_same_device
from .mined import mask_of_pairs


def candidates_from_examples(
    embeddings: Tensor,
    labels: Any,
    indices_tuple: tuple[Tensor, ...] | None,
    ref_emb: Tensor | None,
    ref_labels: Any,
    normalize: bool,
    ref_self: Any = None,
) -> Batch:
    """Examples as anchors and as positives and negatives; arguments as of a loss."""
    check_embeddings("embeddings", embeddings)
    if (ref_emb is None) != (ref_labels is None):
        raise ValueError("ref_emb, ref_labels: one is given without the other")
    if ref_self is not None and ref_emb is None:
        raise ValueError("ref_self: given without ref_emb")
    if ref_emb is None or (ref_emb is embeddings and ref_labels is labels and ref_self is None):
        return _examples_among_themselves(embeddings, as_labels("labels", labels, embeddings), indices_tuple, normalize)
    check_embeddings("ref_emb", ref_emb)
    check_same_device("ref_emb", ref_emb, embeddings)
    if ref_emb.shape[1] != embeddings.shape[1]:
        raise ValueError(f"ref_emb: got {list(ref_emb.shape)}, expected [r, {embeddings.shape[1]}] as embeddings")
    labels = as_labels("labels", labels, embeddings)
    ref_labels = as_labels("ref_labels", ref_labels, ref_emb, "ref_emb")
    sorted_labels, order = ref_labels.sort(stable=True)
    dtype = torch.promote_types(at_least_float32(embeddings).dtype, at_least_float32(ref_emb).dtype)
    anchors, examples = _prepare(embeddings.to(dtype), normalize), _prepare(ref_emb.to(dtype), normalize, order)
    if ref_self is None:
        self_index = torch.full_like(labels, -1)
    else:
        self_index = _own_columns(as_labels("ref_self", ref_self, embeddings), labels, ref_labels, order)
    relations = Relations.from_labels(labels, sorted_labels, self_index)
    rows = torch.arange(len(anchors), device=order.device)
    if indices_tuple is not None:
        relations = relations.keep_pairs(mask_of_pairs(indices_tuple, rows, order, labels, ref_labels, own=False))
    return Batch(anchors, examples, order, relations, anchors_are_examples=False, normalized=normalize)


def _own_columns(ref_self: Tensor, labels: Tensor, ref_labels: Tensor, order: Tensor) -> Tensor:
    """[n] the column of every anchor among the sorted references, -1 where it is none of them.

    Raises:
        ValueError: there is no such reference, or (both looked at on a CPU) it has another label.
    """
    if all(values_are_known(t) for t in (ref_self, labels, ref_labels)):
        outside = (ref_self < -1) | (ref_self >= len(ref_labels))
        if outside.any():
            raise ValueError(f"ref_self: got {int(ref_self[outside][0])}, expected -1 to {len(ref_labels) - 1}")
        listed = (ref_self >= 0).nonzero()[:, 0]
        other = listed[ref_labels[ref_self[listed]] != labels[listed]]
        if len(other):
            a = int(other[0])
            raise ValueError(f"ref_self: got {int(ref_self[a])} for example {a}, expected a reference of its label")
    return torch.cat((order.argsort(), order.new_full((1,), -1)))[ref_self]  # -1 takes the last


def _examples_among_themselves(
    embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None, normalize: bool
) -> Batch:
    order, relations = class_order(labels)
    examples = _prepare(embeddings, normalize, order)
    if indices_tuple is not None:
        relations = relations.keep_pairs(mask_of_pairs(indices_tuple, order, order, labels, labels, own=True))
    return Batch(examples, examples, order, relations, anchors_are_examples=True, normalized=normalize)


def candidates_from_proxies(
    embeddings: Tensor, labels: Any, proxies: Tensor, normalize: bool, proxies_are_anchors: bool
) -> Batch:
    """Proxies [C, d] as anchors of examples, or as positives and negatives of examples."""
    check_embeddings("embeddings", embeddings)
    check_same_device("proxies", proxies, embeddings)
    labels = as_labels("labels", labels, embeddings)
    classes, size = proxies.shape
    if embeddings.shape[1] != size:
        raise ValueError(f"embeddings: got {list(embeddings.shape)}, expected [n, {size}] as the proxies")
    labels = labels_below(labels, classes)
    dtype = torch.promote_types(at_least_float32(embeddings).dtype, proxies.dtype)
    embeddings = embeddings.to(dtype)
    prepared_proxies = _prepare(proxies.to(dtype), normalize)
    class_index = torch.arange(classes, device=labels.device)
    if proxies_are_anchors:
        sorted_labels, order = labels.sort(stable=True)
        relations = Relations.from_labels(class_index, sorted_labels, torch.full_like(class_index, -1))
        return Batch(prepared_proxies, _prepare(embeddings, normalize, order), order, relations, False, normalize)
    relations = Relations.from_labels(labels, class_index, torch.full_like(labels, -1))
    return Batch(_prepare(embeddings, normalize), prepared_proxies, class_index, relations, False, normalize)


def _prepare(embeddings: Tensor, normalize: bool, order: Tensor | None = None) -> Tensor:
    """Rows in the given order, in at least float32, of unit norm if the loss says so."""
    embeddings = at_least_float32(embeddings)
    if order is None:
        return unit_norm(embeddings) if normalize else embeddings
    return unit_rows(embeddings, order) if normalize else embeddings.index_select(0, order)
