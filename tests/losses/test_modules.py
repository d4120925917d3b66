"""Losses as modules: defaults, parameters, compilation, choice of the backend."""

from __future__ import annotations

import pytest
import torch

import metrix_ext as mx
from tests.losses.against_loops import value_and_gradients
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, batch
from tests.support.loss_tests import Build, default_case, pair_case


@default_case
def test_normalises_by_default(build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("ragged")
    assert loss.normalize is True
    assert_close([loss(7.0 * x, labels)], [loss(x, labels)], rtol=1e-12)


@pair_case
def test_pair_losses_have_no_parameter(build: Build, name: str) -> None:
    assert not list(build(CASES[name]).parameters())


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_as_one_graph(backend: str, build: Build, compiler: str) -> None:
    torch.compiler.reset()
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    compiled = torch.compile(loss, fullgraph=True, backend=compiler)
    want = value_and_gradients(loss, x, labels)
    assert_close(value_and_gradients(compiled, x, labels), want, rtol=1e-12)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="abacus"), mx.use_backend("abacus"):
        pass


def test_choice_ends_with_the_block(build: Build) -> None:
    """The backends round differently, or are the same: never an error, and auto is back afterwards."""
    loss = build(CASES["ms"], dtype=torch.float32)
    x, labels = batch("ragged")
    x = x.float()
    before = loss(x, labels)
    with mx.use_backend("reference"):
        inside = loss(x, labels)
    assert torch.equal(loss(x, labels), before)
    assert_close([inside], [before], rtol=1e-5)
