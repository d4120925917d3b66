"""What the tests of the CUDA kernels on a device share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metrix_ext import backend
from tests.support.op_checks import BOTH, Arguments, Budget, Op, check_equivalent, check_same, checked, evaluate

DEVICE = torch.device("cuda")

# For all tests of a file.
on_cuda = [
    pytest.mark.skipif(backend.why_not("cuda") is not None, reason=str(backend.why_not("cuda"))),
    pytest.mark.usefixtures("cuda_backend"),
]


def every_problem(op: Op) -> pytest.MarkDecorator:
    """The problems of an op that the CPU's kernels are checked on, too."""
    return pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in op.problems.items()])


def check(
    op: Op,
    arguments: Arguments,
    dtypes: Sequence[torch.dtype] = BOTH,
    device: str | torch.device = DEVICE,
    budget: Budget | None = None,
    truth_on: str | torch.device = "cpu",
) -> None:
    """Values and gradients against the reference, and the same bits the second time.

    Exponentials of the special-function unit have one bit less than those of the plain formula: twice its error.
    """
    budget = replace(op.budget, factor=2.0) if budget is None else budget
    for dtype, found in checked(op, arguments, dtypes, device, budget, truth_on):
        check_same(evaluate(op, arguments, dtype, device), found, f"{op.name}, {dtype}, the second time")
        check_equivalent(op, arguments, dtype, found, device)


def check_replay(
    make: Callable[[int], tuple[Tensor, ...]], step: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
) -> None:
    """A captured graph gives the bits of an eager step on what is in its memory when it is replayed.

    Args:
        make: the tensors that a step reads, of a seed.
        step: gives the results, with gradients.
    """
    inputs = make(0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(inputs)
    others = make(1)
    expected = step(others)
    for tensor, other in zip(inputs, others, strict=True):
        tensor.detach().copy_(other.detach())
    graph.replay()
    torch.cuda.synchronize()
    for one, other in zip(captured, expected, strict=True):
        assert torch.equal(one, other)


def check_stream(
    late: Tensor, step: Callable[[], tuple[Tensor, ...]], expected: tuple[Tensor, ...] | None = None
) -> None:
    """Kernels run on the current stream, where ``late`` gets its numbers late: what reads it elsewhere sees NaN."""
    expected = step() if expected is None else expected
    right = late.detach().clone()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        late.detach().fill_(float("nan"))
        torch.cuda._sleep(50_000_000)
        late.detach().copy_(right)
        found = step()
    stream.synchronize()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
