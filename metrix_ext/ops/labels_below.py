"""Labels, once they are known to have a proxy each: a check that a compiled graph cannot drop, since it gives them."""

from __future__ import annotations

import torch
from torch import Tensor

from .library import LIBRARY, implement


def labels_below(labels: Tensor, classes: int) -> Tensor:
    """The labels [n] int64, all from 0 to classes - 1.

    Raises:
        ValueError: on the CPU. On a GPU, which is not waited for, the next wait fails.
    """
    return _run(labels, classes)


LIBRARY.define("labels_below(Tensor labels, SymInt classes) -> Tensor")


def _checked(labels: Tensor, classes: int) -> Tensor:
    inside = ((labels >= 0) & (labels < classes)).all()
    if labels.device.type != "cpu":
        torch._assert_async(inside)
    elif not inside:
        raise ValueError(
            f"labels: got {int(labels.min())} to {int(labels.max())}, expected 0 to {classes - 1} as the proxies"
        )
    return labels.clone()


_run = implement("labels_below", _checked)


@torch.library.register_fake("metrix_ext::labels_below", lib=LIBRARY)
def _fake(labels: Tensor, classes: int) -> Tensor:
    return torch.empty_like(labels)
