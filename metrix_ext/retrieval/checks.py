"""Checks of the arguments that all measures have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_ks(k: int | Sequence[int]) -> list[int]:
    ks = [k] if isinstance(k, int | float) else list(k)
    if not ks or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in ks):
        raise ValueError(f"k is {k!r}; expected an integer of at least 1, or several")
    return list(dict.fromkeys(ks))


def check_embeddings(name: str, x: Tensor, like: Tensor | None = None) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; expected a floating point tensor [n, d]")
    if not x.is_floating_point():
        raise TypeError(f"{name} has dtype {x.dtype}; expected floating point")
    if x.dim() != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"{name} has shape {list(x.shape)}; expected [n, d] with n, d >= 1")
    if like is not None and (x.shape[1] != like.shape[1] or x.device != like.device):
        raise ValueError(
            f"{name} has shape {list(x.shape)} on {x.device}; "
            f"expected {like.shape[1]} columns on {like.device}, like the queries"
        )
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).any(1).sum())
        raise ValueError(f"{name} has NaN or Inf in {bad} of {len(x)} rows; expected finite numbers")


def check_labels(name: str, labels: Tensor, x: Tensor, x_name: str) -> None:
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} is a {type(labels).__name__}; expected an integer tensor [n]")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {labels.dtype}; expected an integer dtype")
    if labels.shape != (len(x),):
        raise ValueError(f"{name} has shape {list(labels.shape)}; expected [{len(x)}], one a row of {x_name}")
    if labels.device != x.device:
        raise ValueError(f"{name} is on {labels.device}; expected {x.device}, like {x_name}")
