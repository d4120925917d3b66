"""Examples sorted by class: every backend reads the positives of an anchor as one range of columns."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backend, native
from ..terms.relations import Relations
from .checks.batch import check_class_order
from .launch import where
from .library import LIBRARY, implement


def class_order(labels: Tensor) -> tuple[Tensor, Relations]:
    """The order that sorts examples by class, and who then is positive for whom.

    Args:
        labels: [n] int64.

    Returns:
        [n] int64, where each example stood; equal labels keep their order. And the relations of the sorted examples as
        anchors of each other.

    Raises:
        TypeError, ValueError: labels are not as above.
    """
    check_class_order(labels)
    if backend.choose(labels.device) == "reference":
        sorted_labels, order = labels.sort(stable=True)
        place = torch.arange(len(labels), device=labels.device)
        return order, Relations.from_labels(sorted_labels, sorted_labels, place)
    order, positives, place = _run(labels)
    return order, Relations(positives, place, anchors_in_order=True)


LIBRARY.define("class_order(Tensor labels) -> (Tensor, Tensor, Tensor)")


def _class_order(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    labels = labels.contiguous()
    if backend.choose(labels.device) == "triton":
        from .triton import class_order as kernels

        return kernels.class_order(labels)
    n = len(labels)
    order, positives, place = labels.new_empty(n), labels.new_empty((n, 2)), labels.new_empty(n)
    native.lib().class_order(where(labels), examples=n, labels=labels, order=order, positives=positives, place=place)
    return order, positives, place


@torch.library.register_fake("metrix_ext::class_order", lib=LIBRARY)
def _fake(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n = labels.shape[0]
    return labels.new_empty(n), labels.new_empty((n, 2)), labels.new_empty(n)


_run = implement("class_order", _class_order)
