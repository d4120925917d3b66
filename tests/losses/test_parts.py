"""The loss with its clean part, for whoever logs it."""

from __future__ import annotations

import torch

from tests.losses.against_loops import value_and_gradients
from tests.support.compare import assert_same_bits
from tests.support.loss_cases import CASES, batch, leaf, some_triplets
from tests.support.loss_tests import Build, default_case, gradients, pair_case


@default_case
def test_the_loss_and_itself_without_a_gradient(backend: str, build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("ragged")
    inp = leaf(x)
    parts = loss.parts(inp, labels)
    assert parts.mixed is None
    assert not parts.clean.requires_grad
    assert_same_bits([parts.clean], [parts.loss.detach()])
    got = gradients(parts.loss, [inp, *loss.parameters()])
    assert_same_bits(got, value_and_gradients(loss, x, labels))


@pair_case
def test_takes_what_the_loss_takes(build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("pairs")
    bank, bank_labels = batch("ragged", seed=7)
    mined = some_triplets(labels)
    assert_same_bits([loss.parts(x, labels, mined).loss], [loss(x, labels, mined)])
    got, want = loss.parts(x, labels, ref_emb=bank, ref_labels=bank_labels), loss(x, labels, None, bank, bank_labels)
    assert_same_bits([got.loss, got.clean], [want, want])


def test_compiles_as_one_graph(backend: str, build: Build) -> None:
    torch.compiler.reset()
    loss = build(CASES["contrastive-mean"])
    x, labels = batch("ragged")
    got = torch.compile(loss.parts, fullgraph=True, backend="aot_eager")(x, labels)
    torch.testing.assert_close(got.clean, loss(x, labels))
