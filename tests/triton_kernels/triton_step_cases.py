"""Whole losses on the Triton backend: their values, and how few launches they are; run by test_triton.py as
triton_cases.py is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

import metrix_ext as mx
from tests.support.compare import assert_near
from tests.triton_kernels.on_triton import DEVICE, triton_backend  # noqa: F401

# Of PyTorch, what only makes or names memory; and our products, which are cuBLAS's.
NO_LAUNCH = {"alias", "detach", "empty", "empty_like", "expand", "new_empty", "select", "slice", "t", "view"}
PRODUCTS = {"gram", "gram_backward"}
KEY = torch._C.DispatchKey.CUDA if DEVICE.type == "cuda" else torch._C.DispatchKey.CPU

AROUND = {
    "places_of_examples": 1,
    "unit_row": 1,
    "mean_of_anchors": 1,
    "gradients_of_anchors": 1,
    "unit_row_gradient": 1,
}
CLEAN = {"row_sums": 1, "row_gradients": 1}
MIXED = {"lambda_of_pairs": 1, "aten::randint": 1}  # the seed
PAIRS = {"product_cells": 1, "merge_cells": 1, "product_similarity_gradient": 2}
ROWS = {"row_sums": 2, "row_gradients": 2}
OF_BOTH = {"aten::add": 1}  # gradients of the similarities, of which the inner products are the same
STEPS = {
    "clean": (None, False, AROUND | CLEAN),
    "pos-neg": ("pos-neg", False, AROUND | CLEAN | MIXED | PAIRS),
    "anc-neg": ("anc-neg", False, AROUND | MIXED | ROWS),
    "pos-neg, renormalised": (
        "pos-neg",
        True,
        AROUND | CLEAN | MIXED | PAIRS | OF_BOTH | {"product_norm_gradient": 1, "add_parts": 1},
    ),
    "anc-neg, renormalised": ("anc-neg", True, AROUND | MIXED | ROWS | OF_BOTH | {"add_parts": 1}),
}


class Launches(TorchDispatchMode):
    """Counts by name what PyTorch launches, also inside our ops, and in ``made`` what others add."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.name().split(".")[0]
        namespace, short = name.split("::")
        if namespace != "metrix_ext":
            if short not in NO_LAUNCH:
                self.made[name] += 1
            return op(*args, **(kwargs or {}))
        if short in PRODUCTS:
            return op(*args, **(kwargs or {}))
        with self:  # straight to the implementation: a call of the op would come back here
            return op._op_dk(KEY, *args, **(kwargs or {}))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    counted = Launches()
    for kind in (JITFunction, InterpretedFunction):

        def run(kernel: Any, *args: Any, run: Any = kind.run, **options: Any) -> Any:
            counted.made[kernel.fn.__name__] += 1
            with _disable_current_modes():  # the interpreter copies tensors
                return run(kernel, *args, **options)

        monkeypatch.setattr(kind, "run", run)
    return counted


def criterion(pairs: str | None, renormalize: bool) -> torch.nn.Module:
    loss = mx.losses.MultiSimilarityLoss()
    return loss if pairs is None else mx.Metrix(loss, mix="embed", pairs=pairs, renormalize=renormalize)


def embeddings(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (9,), generator=generator)
    return x.to(DEVICE, dtype).requires_grad_(), labels.to(DEVICE)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_few_launches(step: str, launches: Launches) -> None:
    pairs, renormalize, expected = STEPS[step]
    x, labels = embeddings()
    upstream = torch.ones((), device=DEVICE)
    made = criterion(pairs, renormalize)
    made(x, labels).backward(upstream)  # numbers that are kept are copied once
    launches.made.clear()
    x.grad = None
    with launches:
        made(x, labels).backward(upstream)
    assert launches.made == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_that_of_the_reference(step: str, dtype: torch.dtype) -> None:
    pairs, renormalize, _ = STEPS[step]
    made = criterion(pairs, renormalize)
    mixing = {} if pairs is None else {"seed": 5}
    results = []
    for backend, wanted in (("triton", dtype), ("reference", torch.float64)):
        x, labels = embeddings(wanted)
        with mx.use_backend(backend):
            loss = made(x, labels, **mixing)
            loss.backward()
        results.append((loss.detach().double(), x.grad.double()))
    for found, right in zip(*results, strict=True):
        assert_near(found, right, 1e-12 if dtype == torch.float64 else 2e-5, step)
