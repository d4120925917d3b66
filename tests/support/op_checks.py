"""What is checked of every op, whatever it computes: the ops and their problems are in ops/."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.relations import Relations
from tests.support.compare import assert_near, assert_no_worse, describe

Arguments = dict[str, Any]  # of a public op, by name; floating ones in float64 on the CPU
Results = dict[str, Tensor]  # outputs and gradients, by name
BadArguments = Sequence[tuple[Arguments, type[Exception], str]]  # what is changed, the exception, what it has to name
BOTH = (torch.float64, torch.float32)


@dataclass(frozen=True)
class Budget:
    """How far from the truth a result may be: relative l2 errors.

    Attributes:
        double: of float64.
        single: of float32, beyond ``factor`` times the error of the plain formula in float32.
        smallest: added to the norm of the truth, for gradients that cancel to nothing.
        nothing: a truth with a smaller norm is 0, and the bound absolute.
        from_exact_inputs: the truth is that of the inputs before they are rounded to float32.
    """

    double: float
    single: float
    factor: float = 1.0
    smallest: float = 1e-30
    nothing: float = 0.0
    from_exact_inputs: bool = False


@dataclass(frozen=True)
class Op:
    """An op as the shared tests see it.

    Attributes:
        call: the public function, of arguments by name.
        reference: the same in plain PyTorch.
        outputs: names of what they give.
        leaves: names of the arguments that have a gradient.
        problems: groups of arguments that bite, by name.
        small: arguments for what is slow to check: registration, compilation, numerical gradients.
        large: arguments that several threads share.
        wide: arguments with rows that are longer than a vector of any instruction set.
        budget: of values and gradients.
        smooth: arguments for numerical gradients, where those of ``small`` have a kink.
        half: names of the arguments that may be of a half type.
        bad: changes of the arguments of ``small``, the exception, and the name that it has to tell.
        equivalent: gives arguments that have to give the same bits.
        adds_in_order_of_memory: last bits depend on strides, since PyTorch takes norms or products of the inputs.
    """

    name: str
    call: Callable[..., Any]
    reference: Callable[..., Any]
    outputs: tuple[str, ...]
    leaves: tuple[str, ...]
    problems: dict[str, Callable[[], Iterable[Arguments]]]
    small: dict[str, Callable[[], Arguments]]
    large: dict[str, Callable[[], Arguments]]
    wide: dict[str, Callable[[], Arguments]]
    budget: Budget
    smooth: dict[str, Callable[[], Arguments]] | None = None
    half: tuple[str, ...] = ()
    bad: Callable[[Arguments], BadArguments] | None = None
    equivalent: Callable[[Arguments], Iterator[Arguments]] = lambda arguments: iter(())
    adds_in_order_of_memory: bool = False


def given_as(value: Any, dtype: torch.dtype, device: str | torch.device = "cpu") -> Any:
    """An argument on a device, if it has floats in a type."""
    if isinstance(value, Tensor):
        return value.detach().to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, Mixes):
        return Mixes(*(given_as(tensor, dtype, device) for tensor in value.tensors))
    if isinstance(value, Relations):
        parts = (given_as(part, dtype, device) for part in (value.positives, value.self_index, value.mask))
        return replace(value, **dict(zip(("positives", "self_index", "mask"), parts, strict=True)))
    return dtype if isinstance(value, torch.dtype) else value


def prepare(op: Op, arguments: Arguments, dtype: torch.dtype, device: str | torch.device = "cpu") -> Arguments:
    """The arguments in a type on a device, those with a gradient as leaves."""
    given = {name: given_as(value, dtype, device) for name, value in arguments.items()}
    return given | {name: leaf.requires_grad_() for name, leaf in leaves(op, given).items()}


def leaves(op: Op, given: Arguments) -> dict[str, Tensor]:
    return {name: given[name] for name in op.leaves if given.get(name) is not None}


def outputs(op: Op, function: Callable[..., Any], given: Arguments) -> Results:
    """By name; without the counts of terms that are not 0 where rho is exponential, which are undefined then."""
    made = function(**given)
    named = dict(zip(op.outputs, (made,) if isinstance(made, Tensor) else made, strict=True))
    if "nonzero" in named and given["rho"][0].exponential:
        del named["nonzero"]
    return named


def upstream(output: Tensor) -> Tensor:
    """A gradient that differs from element to element and has the same value in every type, half types too."""
    steps = torch.arange(output.numel(), device=output.device) * 5 % 12
    return ((steps - 3.5) / 4).to(output.dtype).reshape(output.shape)


def gradients(made: Results, of: dict[str, Tensor], layout: Callable[[Tensor], Tensor]) -> Results:
    """Of what is defined among the outputs; 0 where an input is not used."""
    used = [t for t in made.values() if t.requires_grad]
    if not of or not used:
        return {}
    given = [layout(upstream(t).masked_fill(~t.detach().isfinite(), 0)) for t in used]
    found = torch.autograd.grad(used, list(of.values()), given, materialize_grads=True)
    return {f"gradient of {name}": g for name, g in zip(of, found, strict=True)}


def results(
    op: Op,
    function: Callable[..., Any],
    given: Arguments,
    layout: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Results:
    """Outputs and gradients, under upstream gradients with that layout in memory."""
    made = outputs(op, function, given)
    return {name: t.detach() for name, t in made.items()} | gradients(made, leaves(op, given), layout)


def evaluate(
    op: Op, arguments: Arguments, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
) -> Results:
    """The op's results; on the CPU in memory that is NaN to begin with."""
    with memory_is_nan() if str(device) == "cpu" else nullcontext():
        return results(op, op.call, prepare(op, arguments, dtype, device))


def evaluate_reference(
    op: Op, arguments: Arguments, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
) -> Results:
    return results(op, op.reference, prepare(op, arguments, dtype, device))


def rounded(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """What the type holds of the arguments, in float64."""
    if dtype == torch.float64:
        return arguments
    return {name: given_as(given_as(value, dtype), torch.float64) for name, value in arguments.items()}


@contextmanager
def memory_is_nan() -> Iterator[None]:
    """What is allocated is NaN, or the largest integer, to begin with: what is not written shows."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def checked(
    op: Op,
    arguments: Arguments,
    dtypes: Sequence[torch.dtype] = BOTH,
    device: str | torch.device = "cpu",
    budget: Budget | None = None,
    truth_on: str | torch.device = "cpu",
) -> Iterator[tuple[torch.dtype, Results]]:
    """Values and gradients in these types, once they are found to be right; what is right is computed on ``truth_on``.

    The project's rule: in float64 the reference's; in float32 no further from them than the plain formula in float32
    is, plus a few roundings. What counts or orders is the same in every type.
    """
    budget = budget or op.budget
    truth = None
    for dtype in dtypes:
        exact = arguments if budget.from_exact_inputs else rounded(arguments, dtype)
        if truth is None or exact is not arguments:
            truth = evaluate_reference(op, exact, device=truth_on)
        naive = truth if dtype == torch.float64 else evaluate_reference(op, exact, dtype, truth_on)
        found = evaluate(op, exact, dtype, device)
        assert found.keys() == truth.keys()
        for name, right in truth.items():
            assert not right.is_floating_point() or found[name].dtype == dtype, name
            check_budget(budget, dtype, name, found[name], naive[name], right, op.name)
        yield dtype, found


def check_budget(
    budget: Budget, dtype: torch.dtype, name: str, found: Tensor, naive: Tensor, truth: Tensor, op: str
) -> None:
    """One result of an op, the plain formula's in the same type, and the truth."""
    what = f"{op}, {name}, {dtype}"
    if name == "nonzero" or not truth.is_floating_point():
        assert torch.equal(found.cpu().to(truth.dtype), truth), f"{what}: {describe(found, truth)}"
    elif truth.norm() < budget.nothing:
        assert found.norm() < (budget.double if dtype == torch.float64 else budget.single), what
    elif dtype == torch.float64:
        assert_near(found, truth, budget.double, what, budget.smallest)
    else:
        assert_no_worse(found, naive, truth, budget.single, what, budget.factor, budget.smallest)


def check_values(
    op: Op,
    arguments: Arguments,
    dtypes: Sequence[torch.dtype] = BOTH,
    device: str | torch.device = "cpu",
    budget: Budget | None = None,
) -> None:
    """Values and gradients against the reference; the same bits where something more is known of the arguments."""
    for dtype, found in checked(op, arguments, dtypes, device, budget):
        check_equivalent(op, arguments, dtype, found, device)


def check_equivalent(
    op: Op, arguments: Arguments, dtype: torch.dtype, found: Results, device: str | torch.device = "cpu"
) -> None:
    for known in op.equivalent(arguments):
        check_same(evaluate(op, known, dtype, device), found, f"{op.name}, {dtype}, equivalent arguments")


def check_same(found: Results, before: Results, what: str) -> None:
    assert found.keys() == before.keys(), what
    for name, right in before.items():
        same = torch.equal(found[name], right)
        assert same, f"{what}, {name}: not the same bits; {describe(found[name], right)}"


def check_threads(op: Op, arguments: Arguments, dtype: torch.dtype) -> None:
    """The same bits again, and for any number of threads."""
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 2, 5):
            torch.set_num_threads(count)
            found.append(evaluate(op, arguments, dtype))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        check_same(other, found[0], op.name)


def differentiable(op: Op, given: Arguments) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """A function of the leaves that gives what is defined of the outputs with a gradient; and the leaves."""
    of = leaves(op, given)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        made = outputs(op, op.call, given | dict(zip(of, tensors, strict=True)))
        return tuple(torch.where(t.isfinite(), t, torch.zeros_like(t)) for t in made.values() if t.requires_grad)

    return function, list(of.values())


def check_numerical_gradients(op: Op, arguments: Arguments, device: str | torch.device = "cpu") -> None:
    function, inputs = differentiable(op, prepare(op, arguments, torch.float64, device))
    assert torch.autograd.gradcheck(function, inputs)


def check_strided(op: Op, arguments: Arguments, device: str | torch.device = "cpu") -> None:
    """The results do not depend on the strides of what is given, nor do their bits where the kernels alone read it."""
    dtype = torch.float64
    given = {name: given_as(value, dtype, device) for name, value in arguments.items()}
    turned = {name: strided(value) if isinstance(value, Tensor) else value for name, value in given.items()}
    assert any(isinstance(t, Tensor) and not t.is_contiguous() for t in turned.values())
    found = results(op, op.call, prepare(op, turned, dtype, device), layout=strided)
    right = evaluate(op, given, dtype, device)
    if not op.adds_in_order_of_memory:
        check_same(found, right, f"{op.name}, not contiguous")
    for name, t in found.items():
        assert_near(t, right[name], 1e-13, f"{op.name}, {name}, not contiguous", op.budget.smallest)


def strided(tensor: Tensor) -> Tensor:
    """The same elements; vectors with gaps, matrices transposed in memory."""
    if tensor.dim() == 1:
        return tensor.repeat_interleave(2)[::2]
    return tensor.T.contiguous().T if tensor.dim() == 2 else tensor


def in_half(op: Op, arguments: Arguments, half: torch.dtype, device: str | torch.device = "cpu") -> Arguments:
    """Prepared in a half type what may be in one, the rest in float32."""
    single = prepare(op, arguments, torch.float32, device)
    halves = {name: given_as(single[name], half, device) for name in op.half if single.get(name) is not None}
    return single | {name: t.requires_grad_(name in op.leaves) for name, t in halves.items()}


def check_native_half(
    op: Op, arguments: Arguments, half: torch.dtype, rounding: float, device: str | torch.device = "cpu"
) -> Results:
    """Kernels that read a half type: the budget of float32, but for gradients that are rounded to the half type."""
    exact = {name: given_as(value, torch.float64) for name, value in in_half(op, arguments, half).items()}
    truth = evaluate_reference(op, exact)
    naive = results(op, op.reference, in_half(op, arguments, half))
    found = results(op, op.call, in_half(op, arguments, half, device))
    for name, right in truth.items():
        if found[name].dtype == half:
            assert_near(found[name], right, rounding, f"{op.name}, {name}, {half}")
        else:
            check_budget(op.budget, torch.float32, name, found[name], naive[name], right, op.name)
    return found


def check_half(op: Op, arguments: Arguments, dtype: torch.dtype) -> None:
    """A half type is computed in float32: the bits of the widened inputs; what comes out as a half type is rounded."""
    half = in_half(op, arguments, dtype)
    names = [name for name in op.half if half.get(name) is not None]
    widened = {name: half[name].detach().float().requires_grad_(name in op.leaves) for name in names}
    wide = half | widened
    found, right = results(op, op.call, half), results(op, op.call, wide)
    for name, expected in right.items():
        given = found[name]
        assert torch.equal(given, expected.to(given.dtype)), f"{op.name}, {name}: {describe(given, expected)}"
    for name in names:
        if name in op.leaves:
            assert found[f"gradient of {name}"].dtype == dtype, name


def check_second_derivative(op: Op, arguments: Arguments) -> None:
    """Refused by name; the reference has one."""
    given = prepare(op, arguments, torch.float64)
    of = list(leaves(op, given).values())

    def gradient(function: Callable[..., Any]) -> tuple[Tensor | None, ...]:
        made = [t for t in outputs(op, function, given).values() if t.requires_grad]
        return torch.autograd.grad(sum(t[t.isfinite()].sum() for t in made), of, create_graph=True, allow_unused=True)

    with pytest.raises(RuntimeError, match=f"{op.name} has no second derivative"):
        gradient(op.call)
    squares = [g.square().sum() for g in gradient(op.reference) if g is not None and g.requires_grad]
    if squares:
        second = torch.autograd.grad(sum(squares), of, materialize_grads=True)
        assert all(t.isfinite().all() for t in second)


def check_bad_arguments(op: Op) -> None:
    assert op.bad is not None
    for arguments in (make() for make in list(op.small.values())[:1]):
        for change, kind, name in op.bad(arguments):
            with pytest.raises(kind, match=name):
                op.call(**{**arguments, **change})
