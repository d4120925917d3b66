"""A list of mixes as the ops and the native kernels take it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import native

# How the schemas of both ops spell a list.
ARGUMENTS = "Tensor first, Tensor second, Tensor lam, Tensor begin, Tensor uses"


def native_mixes(first: Tensor, second: Tensor, lam: Tensor, begin: Tensor, uses: Tensor) -> Any:
    """The native struct of a list. Its tensors are contiguous; the caller keeps them alive."""
    pointers = (tensor.data_ptr() for tensor in (first, second, lam, begin, uses))
    return native.lib().Mixes(len(first), len(begin) - 1, *pointers)
