"""A batch small enough to follow by hand: eleven examples of classes of 3, 2, 4, 1 and 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LABELS = torch.tensor([2, 0, 1, 0, 2, 2, 3, 0, 4, 2, 1])


def embeddings(n: int = len(LABELS)) -> Tensor:
    """[n, 6], of length 1, float64."""
    torch.manual_seed(n)
    return F.normalize(torch.randn(n, 6, dtype=torch.float64)).requires_grad_()
