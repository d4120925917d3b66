"""Checks of what a loss is called with. What is unambiguous is accepted, as pytorch-metric-learning does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_ARRAYS = (np.ndarray, list, tuple)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_embeddings(name: str, x: Any) -> None:
    """A plain matrix of floats."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, expected a tensor [n, d]")
    if x.layout != torch.strided or x.is_nested or isinstance(x, torch.masked.MaskedTensor):
        kind = type(x).__name__ if isinstance(x, torch.masked.MaskedTensor) else str(x.layout).removeprefix("torch.")
        raise TypeError(f"{name}: got a tensor that is {kind}, expected a plain (strided) tensor [n, d]")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name}: got {x.dtype}, expected float16, bfloat16, float32 or float64")
    if x.dim() != 2:
        raise ValueError(f"{name}: got {list(x.shape)}, expected [n, d]")


def check_same_device(name: str, tensor: Tensor, embeddings: Tensor) -> None:
    if tensor.device != embeddings.device:
        raise ValueError(f"{name}: is on {tensor.device}, expected {embeddings.device} as embeddings")


def as_labels(name: str, labels: Any, embeddings: Tensor, of: str = "embeddings") -> Tensor:
    """Integers [n], [n, 1], a list or an array, as int64 [n]."""
    if not isinstance(labels, Tensor) and isinstance(labels, _ARRAYS):
        labels = _from_array(name, labels).to(embeddings.device)
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name}: got {type(labels).__name__}, expected integers [n]")
    if labels.layout != torch.strided:
        raise TypeError(f"{name}: got a tensor that is {labels.layout}, expected integers [n]")
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"{name}: got {labels.dtype}, expected integers")
    n = embeddings.shape[0]
    if labels.shape != (n,) and labels.shape != (n, 1):
        raise ValueError(f"{name}: got {list(labels.shape)}, expected [{n}] as {of}")
    if labels.device != embeddings.device:
        raise ValueError(f"{name}: is on {labels.device}, expected {embeddings.device} as {of}")
    return labels.long() if labels.dim() == 1 else labels.long().squeeze(1)


def _from_array(name: str, labels: np.ndarray | list[Any] | tuple[Any, ...]) -> Tensor:
    try:
        array = np.asarray(labels)
    except ValueError:
        array = np.asarray(labels, dtype=object)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        kind = type(labels[0]).__name__ if len(labels) else array.dtype.name
        raise TypeError(f"{name}: got {type(labels).__name__} of {kind}, expected integers")
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.int64))
