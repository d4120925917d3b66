"""Results that backward computes again, to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.checkpoint import checkpoint

from ..ops.tracing import is_transformed


def recomputed(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """function(*args), under torch's checkpoint; torch.func, which has none, keeps what backward needs.

    Args:
        options: as of torch.utils.checkpoint.
    """
    if is_transformed():
        return function(*args)
    return checkpoint(function, *args, use_reentrant=False, **options)
