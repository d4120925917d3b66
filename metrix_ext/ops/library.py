"""What all ops share: their namespace, their autograd in eager mode, and the native kernels by element type."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import native

LIBRARY = torch.library.Library("metrix_ext", "DEF")

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


def kernel(name: str, dtype: torch.dtype) -> Callable[..., Any]:
    """The native kernel of that name for float32 or float64."""
    function: Callable[..., Any] = getattr(native.lib(), f"{name}_{_SUFFIX[dtype]}")
    return function


def addresses(*tensors: Tensor | None) -> tuple[int, ...]:
    """Where tensors begin, 0 for None, as the native kernels take them."""
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)


def register_autograd(
    name: str, setup_context: Callable[[Any, tuple[Any, ...], Any], None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """Gives an op its gradient, and returns the function to call it by.

    Eager calls go through an autograd.Function of our own: the one that torch.library makes reads the op's schema in
    Python at every call, 30 us for pair_sums, which shows in a batch of 100.
    """
    torch.library.register_autograd(f"metrix_ext::{name}", backward, setup_context=setup_context, lib=LIBRARY)
    op = getattr(torch.ops.metrix_ext, name)

    def forward(ctx: Any, *args: Any) -> Any:
        output = op(*args)
        setup_context(ctx, args, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    eager: Any = type(name, (torch.autograd.Function,), members)

    def call(*args: Any) -> Any:
        return op(*args) if torch.compiler.is_compiling() else eager.apply(*args)

    return call
