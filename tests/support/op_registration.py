"""What is checked of how every op is registered with PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.compare import assert_near
from tests.support.op_checks import Arguments, Op, leaves, prepare, results


class Calls(TorchDispatchMode):
    """Records the calls of our ops, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op.namespace == "metrix_ext":
            self.made.append((op, args))
        return op(*args, **(kwargs or {}))


def check_registration(op: Op, arguments: Arguments) -> None:
    """opcheck (schema, fake, autograd, dynamic shapes) of every registered op that a call and its gradient use."""
    given = prepare(op, arguments, torch.float64)
    with Calls() as calls:
        results(op, op.call, given)
    names = {registered.name().removeprefix("metrix_ext::") for registered, _ in calls.made}
    assert op.name in names
    assert not op.leaves or len(calls.made) > 1  # a gradient is an op, too: f"{name}_backward", or the same
    for registered, args in calls.made:
        forward = not registered.name().endswith("_backward")
        fresh = [copied(arg, forward) if isinstance(arg, Tensor) else arg for arg in args]
        with_gradient = any(isinstance(arg, Tensor) and arg.requires_grad for arg in fresh)
        assert with_gradient or not op.leaves or registered.name() != f"metrix_ext::{op.name}"
        torch.library.opcheck(registered, fresh)


def copied(tensor: Tensor, with_gradient: bool) -> Tensor:
    return tensor.detach().clone().requires_grad_(with_gradient and tensor.requires_grad)


def check_compiled(op: Op, arguments: Arguments) -> None:
    """One graph, forward and backward, that gives what eager calls do."""
    torch._dynamo.reset()
    given = prepare(op, arguments, torch.float64)
    of = leaves(op, given)
    rest = {name: value for name, value in given.items() if name not in of}

    def doubled(tensors: dict[str, Tensor]) -> Any:
        return op.call(**rest, **{name: 2 * t for name, t in tensors.items()})

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    right = results(op, lambda **_: doubled(of), given)
    found = results(op, lambda **_: compiled(of), given)
    for name, t in right.items():
        assert_near(found[name], t, 1e-12, f"{op.name}, {name}, compiled", op.budget.smallest)
