"""Pairs and triplets of a miner, and reference embeddings, as in pytorch-metric-learning."""

from __future__ import annotations

import pytest
import torch

import metrix_ext as mx
from tests.losses.against_loops import assert_like_loops, expected, some_pairs, value_and_gradients
from tests.support import loop_oracle
from tests.support.compare import assert_close, assert_zero_gradient, relative_error
from tests.support.loss_cases import CASES, batch, leaf, some_triplets
from tests.support.loss_tests import Build, pair_case


@pair_case
def test_triplets(backend: str, build: Build, name: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    chosen = some_triplets(labels)
    want = expected(case, loss, x, labels, indices_tuple=chosen)
    assert_close(value_and_gradients(loss, x, labels, indices_tuple=chosen), want, rtol=1e-10)
    assert relative_error(want[0], expected(case, loss, x, labels)[0]) > 1e-3


@pair_case
def test_pairs(backend: str, build: Build, name: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    chosen = some_pairs(labels, labels, same_batch=True)
    assert_like_loops(case, loss, x, labels, indices_tuple=chosen)


@pair_case
def test_empty_tuple(backend: str, build: Build, name: str) -> None:
    x, labels = batch("ragged")
    x = leaf(x)
    nothing = torch.empty(0, dtype=torch.int64)
    value = build(CASES[name])(x, labels, (nothing, nothing, nothing))
    value.backward()
    assert value.item() == 0.0
    assert_zero_gradient(x)


@pair_case
@pytest.mark.parametrize("layout", ["none", "one", "ragged"])
def test_reference_embeddings(backend: str, build: Build, name: str, layout: str) -> None:
    """A memory bank of another size; gradients reach it too."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("pairs")
    bank, bank_labels = batch(layout, seed=7)
    x, bank, x2, bank2 = leaf(x), leaf(bank), leaf(x), leaf(bank)
    got = loss(x, labels, ref_emb=bank, ref_labels=bank_labels)
    want = loop_oracle.clean_loss(case.loss, x2, labels, ref_emb=bank2, ref_labels=bank_labels)
    grads = torch.autograd.grad(got, [x, bank], materialize_grads=True)
    wanted = torch.autograd.grad(want, [x2, bank2], materialize_grads=True)
    assert_close([got.detach(), *grads], [want.detach(), *wanted], rtol=1e-10)


@pair_case
def test_reference_embeddings_with_pairs(backend: str, build: Build, name: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("pairs")
    bank, bank_labels = batch("ragged", seed=7)
    given = {
        "indices_tuple": some_pairs(labels, bank_labels, same_batch=False),
        "ref_emb": bank,
        "ref_labels": bank_labels,
    }
    assert_like_loops(case, loss, x, labels, **given)


@pair_case
def test_the_batch_as_its_own_reference(backend: str, build: Build, name: str) -> None:
    """The same tensor: an anchor is not its own positive. A copy: it is, nobody can know better."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    assert_close([loss(x, labels, ref_emb=x, ref_labels=labels)], [loss(x, labels)], rtol=1e-13)
    copied = expected(case, loss, x, labels, ref_emb=x.clone(), ref_labels=labels)[0]
    assert_close([loss(x, labels, ref_emb=x.clone(), ref_labels=labels)], [copied], rtol=1e-10)


@pair_case
def test_reference_module_takes_them_too(build: Build, name: str) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("pairs")
    bank, bank_labels = batch("ragged", seed=7)
    chosen = some_triplets(labels)
    got = mx.reference.clean_loss(loss, x, labels, indices_tuple=chosen)
    assert_close([got], [expected(case, loss, x, labels, indices_tuple=chosen)[0]], rtol=1e-10)
    got = mx.reference.clean_loss(loss, x, labels, ref_emb=bank, ref_labels=bank_labels)
    want = expected(case, loss, x, labels, ref_emb=bank, ref_labels=bank_labels)[0]
    assert_close([got], [want], rtol=1e-10)
