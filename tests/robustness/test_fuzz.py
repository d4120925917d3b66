"""Every op and every public function with one argument wrong at a time: a clean error, or the right result.

A clean error is a TypeError, ValueError, RuntimeError or NotImplementedError of one line that names an argument. What
is right is what the reference backend gives for the same arguments. Calls run in processes of their own, so that one
that crashes or hangs is named like any other.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from .calls import CALLS, outputs_and_gradients
from .support import Outcome, attempt, isolated_each, on_reference

CLEAN = {"ValueError", "TypeError", "RuntimeError", "NotImplementedError"}
ILL_CONDITIONED = 1e12  # numbers of this size come from norms of nothing, whose digits mean nothing
DTYPES = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
    "uint64",
    "bool",
    "complex64",
    "float8_e4m3fn",
]


class Tagged(torch.Tensor):
    """A subclass that changes nothing."""


class Unspoilt(Exception):
    """A mutation does not apply to this value."""


def spaced(tensor: Tensor) -> Tensor:
    """Every second element of a storage."""
    room = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)
    room[..., 0] = tensor
    return room[..., 0]


def transposed(tensor: Tensor) -> Tensor:
    """The dimensions in the opposite order in memory."""
    dims = tuple(range(tensor.dim()))[::-1]
    return tensor.permute(dims).contiguous().permute(dims)


def with_element(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        if tensor.dtype in (torch.bool, torch.int8) or tensor.numel() == 0 or tensor.is_complex():
            raise Unspoilt
        tensor = tensor.clone()
        tensor.view(-1)[tensor.numel() // 2] = value
        return tensor

    return change


OF_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "without its last row": lambda t: t[:-1],
    "with a row more": lambda t: torch.cat((t, t[:1])),
    "without rows": lambda t: t[:0],
    "one row": lambda t: t[:1],
    "without its last column": lambda t: t[:, :-1],
    "without columns": lambda t: t[:, :0],
    "with a dimension in front": lambda t: t[None],
    "with a dimension behind": lambda t: t[..., None],
    "flat": lambda t: t.reshape(-1),
    "a scalar": lambda t: t.reshape(-1)[0],
    "on meta": lambda t: t.to("meta"),
    "spaced": spaced,
    "transposed": transposed,
    "expanded": lambda t: t[:1].expand_as(t),
    "sparse": lambda t: t.to_sparse(),
    "tagged": lambda t: t.as_subclass(Tagged),
    "parameter": lambda t: torch.nn.Parameter(t, requires_grad=t.is_floating_point()),
    "conjugate": lambda t: torch.conj(t.to(torch.complex64)),
    "numpy": lambda t: t.numpy(),
    "list": lambda t: t.tolist(),
    **{name: lambda t, name=name: t.to(getattr(torch, name)) for name in DTYPES},
}
OF_INTEGERS = {"negative": -1, "just beyond": 12, "far beyond": 2**40, "least": -(2**63), "greatest": 2**63 - 1}
OF_NUMBERS: dict[str, Any] = {
    "nan": float("nan"),
    "inf": float("inf"),
    "minus one": -1,
    "zero": 0,
    "half": 0.5,
    "three halves": 1.5,
    "huge": 2**70,
    "a word": "x",
    "true": True,
    "numpy integer": np.int64(3),
    "numpy float": np.float32(0.5),
    "a tensor": torch.tensor(2),
    "tensors": torch.ones(2),
    "an empty list": [],
    "a function": len,
}
MUTATIONS = [
    *OF_TENSORS,
    *(f"element {name}" for name in OF_INTEGERS),
    *(f"number {name}" for name in OF_NUMBERS),
    "None",
]

# A matrix that is nobody's inner products, which only computing them again would show.
UNKNOWABLE = {("pair_sums", "gram", "expanded")}


def spoilt(value: Any, mutation: str) -> Any:
    """The value with a mutation.

    Raises:
        Unspoilt: the mutation is of another kind of value.
    """
    if mutation == "None":
        return None
    if mutation.startswith("number "):
        if isinstance(value, Tensor) or value is None:
            raise Unspoilt
        return OF_NUMBERS[mutation.removeprefix("number ")]
    if not isinstance(value, Tensor):
        raise Unspoilt
    if mutation.startswith("element "):
        if value.dtype != torch.int64:
            raise Unspoilt
        return with_element(OF_INTEGERS[mutation.removeprefix("element ")])(value)
    if "column" in mutation and value.dim() < 2:
        raise Unspoilt
    return OF_TENSORS[mutation](value)


def judge(name: str, argument: str, mutation: str, seed: int) -> str:
    """What is wrong with how a call takes a spoilt argument; empty if nothing is."""
    call = CALLS[name]
    given = call.make(seed)
    try:
        given[argument] = spoilt(given[argument], mutation)
    except Unspoilt:
        return "does not apply"
    torch.manual_seed(seed)  # a seed of None draws one
    outcome = attempt(lambda: outputs_and_gradients(call, given))
    if outcome.error:
        return fault_of_error(outcome, list(given))
    if any(t.device.type == "meta" for t in outcome.value[0]):
        return ""
    given = call.make(seed)
    given[argument] = spoilt(given[argument], mutation)
    torch.manual_seed(seed)
    right = attempt(lambda: on_reference(lambda: outputs_and_gradients(call, given)))
    if right.error:
        return f"accepted, the reference says {str(right)[:150]}"
    return fault_of_result(outcome.value, right.value, tolerance(given))


def fault_of_error(outcome: Outcome, arguments: list[str]) -> str:
    assert outcome.error is not None
    (kind, *_), message = outcome.error
    if not CLEAN & {kind}:
        return f"unclear: {kind}: {message[:150]!r}"
    if "\n" in message:
        return f"not one line: {kind}: {message[:150]!r}"
    known = [*arguments, "proxies", "features", "encode", "indices_tuple", "relations", "mixes"]
    named = any(re.search(rf"\b{re.escape(name)}\b", message) for name in known)
    return "" if named else f"names no argument: {kind}: {message[:150]!r}"


def tolerance(given: dict[str, Any]) -> float:
    sizes = [v.dtype.itemsize for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()]
    return {2: 5e-2, 4: 1e-3}.get(min(sizes, default=8), 1e-7)


def fault_of_result(made: Any, right: Any, rtol: float) -> str:
    """Gradients are compared where both have them."""
    for kind, ours, theirs in zip(("result", "gradient"), made, right, strict=True):
        if kind == "gradient" and len(ours) != len(theirs):
            continue
        if [t.shape for t in ours] != [t.shape for t in theirs]:
            return f"wrong {kind}: shapes {[list(t.shape) for t in ours]}, not {[list(t.shape) for t in theirs]}"
        for a, b in zip(ours, theirs, strict=True):
            a, b = a.double(), b.double()
            scale = float(b[b.isfinite()].abs().max()) if b.isfinite().any() else 1.0
            if scale > ILL_CONDITIONED:
                continue
            if not torch.allclose(a, b, rtol=rtol, atol=rtol * max(scale, 1e-3), equal_nan=True):
                return f"wrong {kind}: {a.flatten()[:3].tolist()}, not {b.flatten()[:3].tolist()}"
    return ""


def faults(cases: list[tuple[str, str, str, int]]) -> tuple[list[str], int]:
    """A line for every fault, and how many calls there were."""
    lines, calls = [], 0
    for case, outcome in zip(cases, isolated_each(judge, cases, seconds=10.0), strict=True):
        verdict = outcome.value if outcome.value is not None else str(outcome)
        calls += verdict != "does not apply"
        if verdict not in ("", "does not apply"):
            lines.append("{}({} {}, seed {}): {}".format(*case, verdict))
    return lines, calls


def pairs_of(name: str) -> list[tuple[str, str]]:
    """Arguments of a call and mutations that apply to them."""
    given = CALLS[name].make(0)
    found = []
    for argument, value in given.items():
        for mutation in MUTATIONS:
            try:
                spoilt(value, mutation)
            except Unspoilt:
                continue
            except Exception:
                continue
            if (name.split()[0], argument, mutation) not in UNKNOWABLE:
                found.append((argument, mutation))
    return found


@pytest.mark.parametrize("name", CALLS)
def test_valid_arguments_give_the_right_result(name: str) -> None:
    """What is spoilt below is right before."""
    call = CALLS[name]
    made = outputs_and_gradients(call, call.make(0))
    right = on_reference(lambda: outputs_and_gradients(call, call.make(0)))
    assert fault_of_result(made, right, 1e-7) == ""


@pytest.mark.parametrize("name", CALLS)
def test_one_wrong_argument(name: str) -> None:
    """A sample of the mutations of every argument."""
    pairs = pairs_of(name)
    sample = sorted(random.Random(name).sample(pairs, min(len(pairs), 24)))
    lines, calls = faults([(name, argument, mutation, 0) for argument, mutation in sample])
    assert not lines, f"{len(lines)} faults in {calls} calls, seed 0:\n" + "\n".join(lines)


@pytest.mark.slow
def test_ten_thousand_wrong_arguments() -> None:
    """All mutations of all arguments, from ever other seeds; METRIX_FUZZ_SEED and METRIX_FUZZ_CALLS choose."""
    seed = int(os.environ.get("METRIX_FUZZ_SEED", "0"))
    wanted = int(os.environ.get("METRIX_FUZZ_CALLS", "10000"))
    everything = [(name, *pair) for name in CALLS for pair in pairs_of(name)]
    rounds = -(-wanted // len(everything))
    cases = [(*case, seed + k) for k in range(rounds) for case in everything][: max(wanted, len(everything))]
    lines, calls = faults(cases)
    kinds = Counter(re.sub(r", seed \d+\)", ")", line) for line in lines)
    print(f"{calls} calls from seed {seed}, {len(lines)} faults of {len(kinds)} kinds")
    listed = "\n".join(f"{count} x {line}" for line, count in kinds.most_common(400))
    assert not lines, f"{len(lines)} faults in {calls} calls from seed {seed}:\n{listed}"
