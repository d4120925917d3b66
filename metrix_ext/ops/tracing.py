"""Who else has a say in a call: transforms, modes, tracers, subclasses. The one place that asks torch's internals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import _C, Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad

_KEYS = _C.DispatchKey
# What a thread dispatches on where nothing is switched on, and in inference mode; a transform, a mode of dispatch and
# a tracer each add a key.
_EAGER = _C.DispatchKeySet(_KEYS.BackendSelect) | _C.DispatchKeySet(_KEYS.ADInplaceOrView)
_UNTOUCHED = frozenset((_EAGER.raw_repr(), _C.DispatchKeySet(_KEYS.BackendSelect).raw_repr()))

_PLAIN_TYPES = frozenset((Tensor, torch.nn.Parameter, type(None), bool, int, float, str, list, torch.dtype))

_Infra = _C._TorchDispatchModeKey
_WITHOUT_VALUES = (_Infra.FAKE, _Infra.PROXY, _Infra.FUNCTIONAL)


def is_plain(arguments: Sequence[Any]) -> bool:
    """Whether nothing but reverse-mode autograd has a say in a call, so that it may go past torch's dispatcher.

    Takes half a microsecond: every op asks. The first argument is a tensor, the others are on its device.
    """
    return (
        _C._dispatch_tls_local_include_set().raw_repr() in _UNTOUCHED
        and _PLAIN_TYPES.issuperset(map(type, arguments))
        and not arguments[0].is_meta
        and not _is_forward_mode()
        and _C._len_torch_function_stack() == 0
    )


def is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode autograd is at work."""
    return _C._are_functorch_transforms_active() or _is_forward_mode()


def _is_forward_mode() -> bool:
    return forward_ad._current_level >= 0 and _C._is_fwd_grad_enabled()


def may_need_gradient(tensor: Tensor) -> bool:
    """Whether backward may ask for the gradient of a tensor; under torch.func it does not tell."""
    return torch.is_grad_enabled() and (tensor.requires_grad or _C._are_functorch_transforms_active())


def values_are_known(tensor: Tensor) -> bool:
    """Whether Python may look at the numbers, and act on them: not on a GPU, which would have to be waited for, nor
    where there are none yet (graphs, meta and fake tensors) or those of several calls at once (vmap)."""
    if torch.compiler.is_compiling() or tensor.device.type != "cpu":
        return False
    if is_plain((tensor,)):
        return True
    if _C._get_tracing_state() is not None or any(_C._get_dispatch_mode(mode) for mode in _WITHOUT_VALUES):
        return False
    return not any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ())
