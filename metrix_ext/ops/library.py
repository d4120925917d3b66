"""What all ops share: their namespace, and their autograd in eager mode."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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

    def call(first: Any, *rest: Any) -> Any:
        traced = type(first) is not Tensor or torch.compiler.is_compiling()
        return op(first, *rest) if traced else function(first, *rest)

    return call


def register_autograd(
    name: str,
    run: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Gives an op its gradient, and returns the function to call it by.

    Eager calls go through an autograd.Function of our own: the one that torch.library makes reads the op's schema in
    Python at every call, 30 us for pair_sums. A second derivative is refused.

    Args:
        run: what ``implement`` gave.
    """
    torch.library.register_autograd(f"metrix_ext::{name}", backward, setup_context=setup_context, lib=LIBRARY)
    op = getattr(torch.ops.metrix_ext, name)

    def forward(ctx: Any, *args: Any) -> Any:
        output = run(*args)
        ctx.set_materialize_grads(False)  # no zeros for outputs that only backward reads
        setup_context(ctx, args, output)
        return output

    def backward_once(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                f"metrix_ext::{name} has no second derivative (create_graph=True); use_backend('reference') has one"
            )
        if all(grad is None for grad in grads):
            return (None,) * len(ctx.needs_input_grad)
        return backward(ctx, *grads)

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward_once)}
    eager: Any = type(name, (torch.autograd.Function,), members)

    def call(*args: Any) -> Any:
        return op(*args) if torch.compiler.is_compiling() else eager.apply(*args)

    return call
