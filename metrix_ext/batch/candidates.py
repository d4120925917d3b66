"""From what a loss is called with to a Batch: checks, norms, the order by class, a miner's pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.class_order import class_order
from ..ops.unit_rows import unit_rows
from ..terms.relations import Relations
from .batch import Batch, at_least_float32


def candidates_from_examples(
    embeddings: Tensor,
    labels: Tensor,
    indices_tuple: tuple[Tensor, ...] | None,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    normalize: bool,
) -> Batch:
    """Examples as anchors and as positives and negatives; arguments as of a loss."""
    _check_embeddings("embeddings", embeddings, "labels", labels)
    if (ref_emb is None) != (ref_labels is None):
        raise ValueError("ref_emb, ref_labels: one is given without the other")
    if ref_emb is not None and ref_labels is not None and not (ref_emb is embeddings and ref_labels is labels):
        _check_embeddings("ref_emb", ref_emb, "ref_labels", ref_labels)
        if ref_emb.shape[1] != embeddings.shape[1]:
            raise ValueError(f"ref_emb: got {list(ref_emb.shape)}, expected [r, {embeddings.shape[1]}] as embeddings")
        sorted_labels, order = ref_labels.long().sort(stable=True)
        anchors, examples = _prepare(embeddings, normalize), _prepare(ref_emb, normalize, order)
        nobody = torch.full_like(labels, -1, dtype=torch.int64)
        relations = Relations.from_labels(labels.long(), sorted_labels, nobody)
        rows = torch.arange(len(anchors), device=order.device)
        if indices_tuple is not None:
            relations = relations.keep_pairs(_mask_of_pairs(indices_tuple, rows, order))
        return Batch(anchors, examples, order, relations, anchors_are_examples=False, normalized=normalize)
    order, relations = class_order(labels.long())
    examples = _prepare(embeddings, normalize, order)
    if indices_tuple is not None:
        relations = relations.keep_pairs(_mask_of_pairs(indices_tuple, order, order))
    return Batch(examples, examples, order, relations, anchors_are_examples=True, normalized=normalize)


def candidates_from_proxies(
    embeddings: Tensor, labels: Tensor, proxies: Tensor, normalize: bool, proxies_are_anchors: bool
) -> Batch:
    """Proxies [C, d] as anchors of examples, or as positives and negatives of examples."""
    _check_embeddings("embeddings", embeddings, "labels", labels)
    classes, size = proxies.shape
    if embeddings.shape[1] != size:
        raise ValueError(f"embeddings: got {list(embeddings.shape)}, expected [n, {size}] as the proxies")
    _check_labels_below(labels, classes)
    labels = labels.long()
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
        return F.normalize(embeddings) if normalize else embeddings
    return unit_rows(embeddings, order) if normalize else embeddings.index_select(0, order)


def _check_embeddings(name: str, embeddings: Tensor, labels_name: str, labels: Tensor) -> None:
    if not isinstance(embeddings, Tensor) or not isinstance(labels, Tensor):
        raise TypeError(
            f"{name}, {labels_name}: got {type(embeddings).__name__}, {type(labels).__name__}, expected tensors"
        )
    if not embeddings.is_floating_point():
        raise TypeError(f"{name}: got {embeddings.dtype}, expected a floating-point type")
    if embeddings.dim() != 2:
        raise ValueError(f"{name}: got {list(embeddings.shape)}, expected [n, d]")
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"{labels_name}: got {labels.dtype}, expected integers")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"{labels_name}: got {list(labels.shape)}, expected [{embeddings.shape[0]}] as {name}")
    if labels.device != embeddings.device:
        raise ValueError(f"{labels_name}: is on {labels.device}, expected {embeddings.device} as {name}")


def _check_labels_below(labels: Tensor, classes: int) -> None:
    inside = ((labels >= 0) & (labels < classes)).all()
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        if not inside:
            raise ValueError(
                f"labels: got {int(labels.min())} to {int(labels.max())}, expected 0 to {classes - 1} as the proxies"
            )
    else:
        torch._assert_async(inside)  # no device synchronisation: a wrong label fails at the next one


def _mask_of_pairs(indices_tuple: tuple[Tensor, ...], row_order: Tensor, column_order: Tensor) -> Tensor:
    """A miner's pairs, in the order of the batch: [m, n] int8, 1 positive, -1 negative, 0 neither."""
    if not isinstance(indices_tuple, tuple | list) or len(indices_tuple) not in (3, 4):
        raise ValueError(
            "indices_tuple: expected (anchors, positives, negatives) or (anchors, positives, anchors, negatives)"
        )
    a1, p, a2, n = (
        indices_tuple if len(indices_tuple) == 4 else (*indices_tuple[:2], indices_tuple[0], indices_tuple[2])
    )
    mask = torch.zeros((len(row_order), len(column_order)), dtype=torch.int8, device=row_order.device)
    row, column = row_order.argsort(), column_order.argsort()
    mask[row[a1], column[p]] = 1
    mask[row[a2], column[n]] = -1
    return mask
