"""A peer written in plain PyTorch, under torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Build = Callable[..., Callable[[Tensor], Tensor]]


def compiled(build: Build) -> Build:
    """Builds what ``build`` does, as one compiled graph for this shape alone."""

    def built(*arguments: Any) -> Callable[[Tensor], Tensor]:
        return torch.compile(build(*arguments), fullgraph=True, dynamic=False)

    return built
