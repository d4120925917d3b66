"""The mixed loss of embeddings with its gradients, and what the loop oracle and the literal version say of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx
from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import NUM_CLASSES, Case, Tensors, leaf
from tests.support.loss_tests import gradients

SMALL_LAYOUTS = ["none", "one", "two alike", "two unlike", "three", "one class", "singletons"]
every_set = pytest.mark.parametrize("pairs", PAIR_SETS)


def lambda_shape(case: Case, pairs: str, n: int) -> tuple[int, int]:
    """Rows: what the first of a pair is taken from; columns: the second."""
    anchor_first = pairs.startswith("anc-")
    if case.loss.name == "pa":
        return (NUM_CLASSES if anchor_first else n, n)
    if case.has_proxies:
        return (n if anchor_first else NUM_CLASSES, NUM_CLASSES)
    return (n, n)


def random_lambda(shape: tuple[int, int], seed: int = 5) -> Tensor:
    """Any weights, not symmetric: a tensor is taken as it is."""
    generator = torch.Generator().manual_seed(seed)
    return 0.02 + 0.96 * torch.rand(shape, generator=generator, dtype=torch.float64)


def lambda_for(case: Case, pairs: str, labels: Tensor, seed: int = 5) -> Tensor:
    return random_lambda(lambda_shape(case, pairs, len(labels)), seed)


def metrix(loss: nn.Module, **arguments: object) -> nn.Module:
    """With one set of pairs: the default two are not possible with every mix and loss (test_arguments.py)."""
    return mx.Metrix(loss, **{"mix": "embed", "pairs": "pos-neg", **arguments})


def mixed_and_gradients(
    loss: nn.Module, x: Tensor, labels: Tensor, pairs: str, lam: object, seed: int | None = None, **arguments: object
) -> Tensors:
    x = leaf(x)
    value = metrix(loss, **arguments).mixed_loss(x, labels, pairs=pairs, lam=lam, seed=seed)
    assert value.shape == ()
    return gradients(value, [x, *loss.parameters()])


def expected(
    case: Case, loss: nn.Module, x: Tensor, labels: Tensor, pairs: str, lam: float | Tensor, **arguments: object
) -> Tensors:
    """The same by the loops, in the type of the case."""
    x = leaf(x.to(case.loss.dtype))
    proxies = [leaf(p.to(case.loss.dtype)) for p in loss.parameters()]
    value = loop_oracle.mixed_loss(case.loss, x, labels, pairs, lam, *proxies, **arguments)  # type: ignore[arg-type]
    return gradients(value, [x, *proxies])


def assert_like_loops(
    case: Case,
    loss: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    rtol: float = 1e-8,
    **arguments: object,
) -> None:
    got = mixed_and_gradients(loss, x, labels, pairs, lam, **arguments)
    assert_close(got, expected(case, loss, x, labels, pairs, lam, **arguments), rtol=rtol)


def assert_like_reference(
    loss: nn.Module, x: Tensor, labels: Tensor, pairs: str, lam: Tensor, **arguments: object
) -> None:
    """Against the project's own literal version, which test_reference_function ties to the loops."""
    got = mixed_and_gradients(loss, x, labels, pairs, lam, **arguments)
    inp = leaf(x)
    want = mx.reference.mixed_loss(loss, inp, labels, pairs, lam, **arguments)
    assert_close(got, gradients(want, [inp, *loss.parameters()]), rtol=1e-9)
