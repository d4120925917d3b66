"""The clean losses, Eq. (7), against the loop oracle and the literal version."""

from __future__ import annotations

import pytest
import torch

import metrix_ext as mx
from tests.losses.against_loops import ALL_CASES, assert_like_loops, every_case, expected, value_and_gradients
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, LAYOUTS, batch, leaf
from tests.support.loss_tests import Build, default_case, gradients, random_batch, with_loss


@every_case
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients(backend: str, build: Build, name: str, layout: str) -> None:
    case, loss = ALL_CASES[name], build(ALL_CASES[name])
    x, labels = batch(layout)
    assert_like_loops(case, loss, x, labels)


@default_case
def test_sizes_off_every_vector_width(backend: str, build: Build, name: str) -> None:
    size = {"embedding_size": 19} if CASES[name].has_proxies else {}
    assert_like_loops(CASES[name], build(CASES[name], **size), *random_batch(37, 19, seed=3))


@default_case
@pytest.mark.usefixtures("two_threads")
def test_a_larger_batch(build: Build, name: str) -> None:
    """Many blocks of whatever size; the default backend against the literal version."""
    loss = build(CASES[name])
    x, labels = random_batch(700, seed=1)
    inp = leaf(x)
    want = gradients(mx.reference.clean_loss(loss, inp, labels), [inp, *loss.parameters()])
    assert_close(value_and_gradients(loss, x, labels), want, rtol=1e-9)


@default_case
def test_without_normalising(backend: str, build: Build, name: str) -> None:
    case = with_loss(CASES[name], normalize=False)
    loss = build(case, normalize=False)
    assert loss.normalize is False
    x, labels = batch("ragged")
    assert_like_loops(case, loss, x, labels)


@default_case
def test_reference_functions(build: Build, name: str) -> None:
    """mx.reference takes the modules too, whatever the backend."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    want = expected(case, loss, x, labels)[0]
    assert_close([mx.reference.clean_loss(loss, x, labels).detach()], [want], rtol=1e-10)


@default_case
def test_gradcheck(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("ragged")
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), leaf(x))
