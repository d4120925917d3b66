"""Which heads the fused kernels stand for: a PoolingHead that does what PoolingHead says, and nothing else."""

from __future__ import annotations

import warnings
import weakref

import torch
from torch import Tensor, nn

from ..heads import PoolingHead
from ..ops.maps import MOST_POSITIONS

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_said: weakref.WeakSet[PoolingHead] = weakref.WeakSet()


def is_fused(head: PoolingHead, features: Tensor) -> bool:
    """Whether mixing through the kernels gives what calling the head does; if not, a warning says why, once a head."""
    if torch.compiler.is_compiling():  # a graph has no warnings, and knows nothing of what vars() shows
        return type(head) is PoolingHead and type(head.linear) is nn.Linear
    reason = why_called(head, features)
    if reason and head not in _said:
        _said.add(head)
        warnings.warn(f"metrix_ext: {reason}: mixes are encoded one by one, which is slower", stacklevel=5)
    return reason is None


def why_called(head: PoolingHead, features: Tensor) -> str | None:
    """What the head does that the kernels do not, or None."""
    name = type(head).__name__
    own = [attribute for attribute in vars(PoolingHead) if callable(getattr(PoolingHead, attribute))]
    changed = [a for a in own if getattr(type(head), a) is not getattr(PoolingHead, a) or a in vars(head)]
    changed = [attribute for attribute in changed if attribute not in ("__init__", "extra_repr")]
    if changed:
        return f"{name} has its own {', '.join(changed)}"
    if type(head.linear) is not nn.Linear or "forward" in vars(head.linear):
        return f"the linear layer of {name} is a {type(head.linear).__name__} with a forward of its own"
    if any(getattr(module, hooks) for module in (head, head.linear) for hooks in _HOOKS):
        return f"{name} or its linear layer has hooks"
    positions = features.shape[2:].numel() if features.dim() == 4 else 0
    if not head.commutes_with_mixing and positions > MOST_POSITIONS:
        return f"maps of {positions} positions are more than the {MOST_POSITIONS} that the kernels tell apart"
    return None


def check_embedding_size(head: PoolingHead, size: int) -> None:
    """Raises ValueError unless the head gives embeddings of this size, as those that its mixes are compared with."""
    if head.linear.out_features != size:
        raise ValueError(f"encode: gives embeddings of size {head.linear.out_features}, expected {size} as embeddings")
