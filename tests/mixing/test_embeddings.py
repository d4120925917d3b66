"""Embedding mixup, Eq. (8)-(9), against the loop oracle and the literal version."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from tests.mixing.against_loops import (
    SMALL_LAYOUTS,
    assert_like_loops,
    assert_like_reference,
    every_set,
    expected,
    lambda_for,
    metrix,
    random_lambda,
)
from tests.support.compare import assert_close
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import CASES, DIM, OTHER_PARAMETERS, batch, leaf
from tests.support.loss_tests import Build, default_case, gradients, random_batch, with_loss


@default_case
@every_set
@pytest.mark.parametrize("layout", SMALL_LAYOUTS)
def test_small_batches(backend: str, build: Build, name: str, pairs: str, layout: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch(layout)
    lam = lambda_for(case, pairs, labels)
    for renormalize in (False, True):
        assert_like_loops(case, loss, x, labels, pairs, lam, renormalize=renormalize)


@pytest.mark.parametrize("name", OTHER_PARAMETERS)
@every_set
def test_other_parameters(backend: str, build: Build, name: str, pairs: str) -> None:
    case, loss = OTHER_PARAMETERS[name], build(OTHER_PARAMETERS[name])
    x, labels = batch("ragged", 11)
    lam = lambda_for(case, pairs, labels)
    assert_like_loops(case, loss, x, labels, pairs, lam, renormalize=True)


@pytest.mark.parametrize("name", ["ms", "contrastive", "pa", "proxynca"])
def test_sizes_off_every_vector_width(backend: str, build: Build, name: str) -> None:
    n = 33
    loss = build(CASES[name], 2, embedding_size=19) if CASES[name].has_proxies else build(CASES[name])
    x, labels = random_batch(n, 19, seed=n)
    for pairs in PAIR_SETS:
        assert_like_reference(loss, x, labels, pairs, lambda_for(CASES[name], pairs, labels, n), renormalize=True)


@pytest.mark.parametrize("name", ["ms", "contrastive-mean", "nca", "proxynca++"])
@pytest.mark.parametrize("hard", [None, 7])
@pytest.mark.usefixtures("two_threads")
def test_a_larger_batch(build: Build, name: str, hard: int | None) -> None:
    """Many blocks of whatever size; the default backend against the literal version."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = random_batch(75, seed=1)
    for pairs in ("pos-neg", "anc-neg", "neg-neg"):
        lam = lambda_for(case, pairs, labels, 1)
        assert_like_reference(loss, x, labels, pairs, lam, renormalize=True, hard_negatives=hard)


@pytest.mark.parametrize("name", ["ms", "contrastive-nonzero"])
@every_set
@pytest.mark.usefixtures("two_threads")
def test_one_large_class(build: Build, name: str, pairs: str) -> None:
    """Many anchors with the same positives and negatives, which kernels may take together."""
    loss = build(CASES[name])
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([3] * 70 + [4] * 3 + [0] * 2)[torch.randperm(75, generator=generator)]
    x = torch.randn(75, DIM, generator=generator, dtype=torch.float64)
    assert_like_reference(loss, x, labels, pairs, random_lambda((75, 75), 1), renormalize=True)


@default_case
@every_set
def test_reference_function(build: Build, name: str, pairs: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    lam = lambda_for(case, pairs, labels)
    for renormalize, hard in ((False, None), (True, 2)):
        options = {"renormalize": renormalize, "hard_negatives": hard}
        got = mx.reference.mixed_loss(loss, x, labels, pairs, lam, **options)
        want = expected(case, loss, x, labels, pairs, lam, **options)
        assert_close([got.detach()], want[:1], rtol=1e-9)


@pytest.mark.parametrize("name", ["ms", "lifted", "nca", "contrastive", "pa", "proxynca++"])
@pytest.mark.parametrize("lam", [0.0, 1.0])
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
def test_lambda_at_its_ends(backend: str, build: Build, name: str, pairs: str, lam: float) -> None:
    """One of the two sums has only terms of weight zero: log 0, or nothing."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    assert_like_loops(case, loss, x, labels, pairs, lam)


@default_case
@pytest.mark.parametrize("renormalize", [False, True])
def test_without_normalising(backend: str, build: Build, name: str, renormalize: bool) -> None:
    case = with_loss(CASES[name], normalize=False)
    loss = build(case, normalize=False)
    x, labels = batch("ragged")
    for pairs in ("pos-neg", "anc-neg"):
        lam = lambda_for(case, pairs, labels)
        assert_like_loops(case, loss, x, labels, pairs, lam, renormalize=renormalize)


@default_case
def test_gradcheck(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("pairs")
    lam = lambda_for(CASES[name], "pos-neg", labels)
    criterion = metrix(loss, renormalize=True)
    assert torch.autograd.gradcheck(lambda x: criterion.mixed_loss(x, labels, "pos-neg", lam), leaf(x))


def test_compiles_as_one_graph(backend: str, build: Build) -> None:
    torch.compiler.reset()
    criterion = metrix(build(CASES["ms"]), renormalize=True)
    x, labels = batch("ragged")
    lam = random_lambda((len(labels), len(labels)))

    def mixed(x: Tensor) -> Tensor:
        return criterion.mixed_loss(x, labels, pairs="pos-neg", lam=lam)

    x1, x2 = leaf(x), leaf(x)
    got = gradients(torch.compile(mixed, fullgraph=True, backend="aot_eager")(x1), [x1])
    assert_close(got, gradients(mixed(x2), [x2]), rtol=1e-12)


def test_mixed_examples_are_linear_in_lambda(backend: str, build: Build) -> None:
    """By hand, one anchor, one positive, one negative: Eq. (13) written out."""
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    criterion = metrix(build(CASES["contrastive"], margin=0.0))
    lam = 0.25
    s_first = 0.25 * 0.6 + 0.75 * 0.8
    s_second = 0.25 * 0.6 + 0.75 * (0.6 * 0.8 - 0.8 * 0.6)
    want = sum(-lam * s + (1 - lam) * max(s, 0.0) for s in (s_first, s_second)) / 3
    got = criterion.mixed_loss(x, labels, pairs="pos-neg", lam=lam)
    assert math.isclose(got.item(), want, rel_tol=1e-12)
