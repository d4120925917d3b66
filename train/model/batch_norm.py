"""Batch norm: frozen, or with the statistics of all processes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def freeze(model: nn.Module, affine: bool = False) -> None:
    """After `model.train()`, which undoes it: layers normalise by their running statistics, which stay as they are.

    affine: their weights and biases do not learn either.
    """
    for layer in layers(model):
        layer.eval()
        if affine:
            layer.requires_grad_(False)


def synchronized(model: M) -> M:
    """The model with layers that normalise by the statistics of the batches of all processes (torch.nn.SyncBatchNorm).

    Its parameters and buffers are the same tensors. In training mode the layers need an initialised process group and
    tensors of a GPU, and every process has to call them equally often.
    """
    own = any(type(layer).__module__.startswith("timm.") for layer in layers(model))  # which have an activation inside
    convert = import_module("timm.layers").convert_sync_batchnorm if own else nn.SyncBatchNorm.convert_sync_batchnorm
    return convert(model)


def layers(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
