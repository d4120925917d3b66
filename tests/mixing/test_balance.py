"""strength="balanced": w from the gradients of the clean and of the mixed loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.mixing.balance import EVERY, KEPT
from tests.mixing.against_loops import metrix
from tests.mixing.sources import feature_map, pooling_head
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, batch, leaf
from tests.support.loss_tests import Build, gradients


def norms(loss: nn.Module, x: Tensor, labels: Tensor, seed: int, pairs: str = "pos-neg") -> tuple[Tensor, Tensor]:
    """Of the gradients of the clean and of the mixed loss at the embeddings."""
    x, x2 = leaf(x), leaf(x)
    of_clean = gradients(loss(x, labels), [x])[1]
    of_mixed = gradients(metrix(loss, pairs=pairs).mixed_loss(x2, labels, pairs=pairs, seed=seed), [x2])[1]
    return of_clean.norm(), of_mixed.norm()


@pytest.mark.parametrize("share", [0.25, 2.0])
def test_the_mixed_gradient_has_its_share(backend: str, build: Build, share: float) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion = metrix(loss, strength="balanced", gradient_share=share)
    clean, mixed = norms(loss, x, labels, seed=3)
    inp, inp2 = leaf(x), leaf(x)
    w = share * clean / mixed
    want = loss(inp2, labels) + w * metrix(loss).mixed_loss(inp2, labels, seed=3)
    assert_close(gradients(criterion(inp, labels, seed=3), [inp]), gradients(want, [inp2]), rtol=1e-9)
    assert_close([criterion.balance.strength("pos-neg")], [w], rtol=1e-9)


def test_a_running_mean_of_every_tenth_call(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion = metrix(loss, strength="balanced")
    for call in range(EVERY + 1):
        criterion(leaf((1 + call) * x + call), labels, seed=call)
    first, last = (torch.stack(norms(loss, (1 + c) * x + c, labels, seed=c)) for c in (0, EVERY))
    assert_close([criterion.balance.norms[0]], [KEPT * first + (1 - KEPT) * last], rtol=1e-9)
    assert criterion.balance.measured.tolist() == [2]


def test_sets_of_pairs_have_means_of_their_own(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion = metrix(loss, pairs=("pos-neg", "neg-neg"), strength="balanced")
    torch.manual_seed(0)
    for _ in range(8):  # draws both
        criterion(leaf(x), labels, seed=3)
    for row, pairs in enumerate(("pos-neg", "neg-neg")):
        assert_close([criterion.balance.norms[row]], [torch.stack(norms(loss, x, labels, 3, pairs))], rtol=1e-9)


def test_until_measured_it_is_the_papers(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion = metrix(loss, strength="balanced")
    plain = metrix(loss, strength=0.4)
    assert_close([criterion(x, labels, seed=1)], [plain(x, labels, seed=1)], rtol=1e-12)  # no gradient to measure
    criterion.eval()
    assert_close([criterion(leaf(x), labels, seed=1)], [plain(x, labels, seed=1)], rtol=1e-12)
    with torch.no_grad():
        criterion.train()(leaf(x), labels, seed=1)
    assert criterion.balance.measured.tolist() == [0]


def test_what_is_not_finite_is_left_out(build: Build) -> None:
    x, labels = batch("ragged")
    criterion = metrix(build(CASES["ms"]), strength="balanced")
    criterion(leaf(x), labels, seed=1)
    before = criterion.balance.norms.clone()
    criterion.balance.calls["pos-neg"] = 0
    assert criterion(leaf(x * torch.nan), labels, seed=1).isnan()
    assert_same_bits([criterion.balance.norms], [before])


def test_no_mix_has_no_weight(build: Build) -> None:
    """A batch without positives has neither a clean nor a mixed gradient of that kind, and no infinite w."""
    x, labels = batch("singletons")
    criterion = metrix(build(CASES["ms"]), strength="balanced")
    assert criterion(leaf(x), labels).isfinite()
    assert criterion.balance.strength("pos-neg") == 0


def test_features(backend: str, build: Build) -> None:
    """Measured where anchors are; what is learnt gets each gradient once."""
    loss = build(CASES["ms"])
    x, labels = batch("ragged", 2)
    head, features = pooling_head("avg+max"), feature_map(len(labels))
    given = {"encode": head, "seed": 8}
    criterion = metrix(loss, mix="feature", strength="balanced")
    inp, inp2, f, f2 = leaf(x), leaf(x), leaf(features), leaf(features)
    got = gradients(criterion(inp, labels, source=f, **given), [inp, f, *head.parameters()])
    w = float(criterion.balance.strength("pos-neg"))
    want = metrix(loss, mix="feature", strength=w)(inp2, labels, source=f2, **given)
    assert_close(got, gradients(want, [inp2, f2, *head.parameters()]), rtol=1e-9)
    assert w != 0.4


def test_goes_on_from_its_state(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    criterion, other = (metrix(loss, strength="balanced") for _ in range(2))
    for call in range(4):
        criterion(leaf(x + call), labels, seed=call)
    other.load_state_dict(criterion.state_dict())
    for call in range(4, 2 * EVERY):
        first, second = (c(leaf(x + call), labels, seed=call) for c in (criterion, other))
        assert_same_bits([first], [second])
    assert criterion.balance.measured.tolist() == other.balance.measured.tolist() == [2]


def test_others_have_no_state() -> None:
    assert not metrix(mx.losses.MultiSimilarityLoss()).state_dict()


@pytest.mark.parametrize(
    ("argument", "options"), [("strength", {"strength": "automatic"}), ("gradient_share", {"gradient_share": 0.0})]
)
def test_refused(argument: str, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=argument):
        metrix(mx.losses.MultiSimilarityLoss(), **options)
