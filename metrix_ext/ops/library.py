"""What all ops share: their namespace, which way a call takes, and their autograd outside of torch's dispatcher."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..backend import requested, use_backend
from .tracing import is_plain, is_transformed

LIBRARY = torch.library.Library("metrix_ext", "DEF")


def implement(
    name: str, function: Callable[..., Any], devices: tuple[str, ...] = ("CPU", "CUDA")
) -> Callable[..., Any]:
    """Makes a function an op's implementation on the devices, and returns what to call the op by where no gradient is
    recorded.

    Plain tensors that nothing traces go straight to the function: the way through torch.library is Python, too, 10 us a
    call, which shows in a batch of 100.
    """
    for device in devices:
        LIBRARY.impl(name, function, device)
    op = getattr(torch.ops.metrix_ext, name)
    torch.library.register_vmap(f"metrix_ext::{name}", _one_by_one(op), lib=LIBRARY)

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*args)
        if is_plain(args):
            return function(*args)
        return under_torch_func(*args) if is_transformed() else op(*args)

    def backward(*_: Any) -> NoReturn:
        _refuse(name, "derivative")

    under_torch_func = _transformable(name, call, lambda ctx, inputs, output: None, backward)
    return call


def register_autograd(
    name: str,
    run: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Gives an op its gradient, and returns the function to call it by.

    Eager calls go through an autograd.Function of our own: the one that torch.library makes reads the op's schema in
    Python at every call, 30 us for pair_sums; and under torch.func it fails, or passes by what forward mode asks for. A
    second derivative is refused. Backward runs on the backend of its forward pass, whatever its thread has asked for.

    Args:
        run: what ``implement`` gave.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)  # no zeros for outputs that only backward reads
        ctx.backend = requested()
        setup_context(ctx, inputs, output)

    def forward(ctx: Any, *args: Any) -> Any:
        output = run(*args)
        setup(ctx, args, output)
        return output

    def backward_once(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled() and not is_transformed() and not torch.compiler.is_compiling():
            _refuse(name, "second derivative (create_graph=True)")
        if all(grad is None for grad in grads):
            return (None,) * len(ctx.needs_input_grad)
        with contextlib.nullcontext() if ctx.backend == requested() else use_backend(ctx.backend):
            return backward(ctx, *grads)

    torch.library.register_autograd(f"metrix_ext::{name}", backward_once, setup_context=setup, lib=LIBRARY)
    op = getattr(torch.ops.metrix_ext, name)
    members = {"forward": forward, "backward": backward_once, "jvp": _refusing_jvp(name)}
    eager = _function(name, members)
    transformed = _transformable(name, run, setup, backward_once)

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # a graph of TorchScript holds ops, no Functions
            return op(*args)
        return transformed(*args) if is_transformed() else eager.apply(*args)

    return call


def _transformable(
    name: str, run: Callable[..., Any], setup: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """What transforms of torch.func see of an op."""
    op = getattr(torch.ops.metrix_ext, name)

    def apply(*args: Any) -> Any:
        return op(*args) if torch.compiler.is_compiling() else seen.apply(*args)

    members = {"forward": run, "setup_context": setup, "backward": backward, "jvp": _refusing_jvp(name)}
    seen = _function(name, members | {"vmap": _one_by_one(apply)})
    return apply


def _one_by_one(call: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of vmap for any op: a call for every element of the batch."""

    def element(k: int, arg: Any, dim: Any) -> Any:
        return arg.select(dim, k) if isinstance(dim, int) else arg

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        outputs = [call(*map(partial(element, k), args, in_dims)) for k in range(info.batch_size)]
        if isinstance(outputs[0], Tensor):
            return torch.stack(outputs), 0
        stacked = tuple(map(torch.stack, zip(*outputs, strict=True)))
        return stacked, (0,) * len(stacked)

    return rule


def _function(name: str, members: dict[str, Callable[..., Any]]) -> Any:
    methods = {member: staticmethod(function) for member, function in members.items()}
    return type(name, (torch.autograd.Function,), methods)


def _refusing_jvp(name: str) -> Callable[..., NoReturn]:
    return lambda *_: _refuse(name, "derivative in forward mode")


def _refuse(name: str, what: str) -> NoReturn:
    raise RuntimeError(f"metrix_ext::{name} has no {what}; use_backend('reference') has one")
