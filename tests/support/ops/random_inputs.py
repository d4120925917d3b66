"""What the problems of several ops share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import metrix_ext as mx


def as_reference(function: Callable[..., object]) -> Callable[..., object]:
    """A public function on the backend of that name, which is plain PyTorch."""

    def call(**arguments: object) -> object:
        with mx.use_backend("reference"):
            return function(**arguments)

    return call


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def permutation(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(n))
