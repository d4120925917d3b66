"""Metrix(mixed_margins=...): the margin of a mix follows its label. Against the loop oracle and the definition."""

from __future__ import annotations

import pytest
import torch

import metrix_ext as mx
from metrix_ext.mixing import embeddings as mixing
from metrix_ext.mixing.factorised import factorised_sums
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.relations import Relations
from tests.grad_cache.networks import backbone, head, in_micro_batches, in_one_piece, loss_and_gradients
from tests.grad_cache.networks import batch as images_and_labels
from tests.mixing.against_loops import every_set, expected, lambda_for, metrix, random_lambda
from tests.mixing.small_batch import LABELS, embeddings
from tests.mixing.sources import (
    SmallModel,
    assert_source_like_loops,
    feature_map,
    head_by_hand,
    not_refused,
    pooling_head,
)
from tests.mixing.test_chunked import in_chunks_of
from tests.support import loop_oracle
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import CASES, Case, batch, leaf
from tests.support.loss_tests import Build, gradients, with_loss
from tests.support.problems import WITH_MARGINS

MARGINS = (0.6, -0.2)
WITH_MARGIN = [name for name in CASES if "nca" not in name]
every_loss = pytest.mark.parametrize("name", WITH_MARGIN)


def case_of(name: str, margins: tuple[float, float] = MARGINS) -> Case:
    return with_loss(CASES[name], mixed_margins=margins)


@every_loss
@every_set
@pytest.mark.parametrize("hard", [None, 2])
def test_embeddings(backend: str, build: Build, name: str, pairs: str, hard: int | None) -> None:
    case, loss = case_of(name), build(CASES[name])
    x, labels = batch("ragged", 3)
    lam = lambda_for(case, pairs, labels)
    for renormalize in (False, True):
        criterion = {"mixed_margins": MARGINS, "renormalize": renormalize, "hard_negatives": hard}
        got = mixed_and_expected(case, loss, x, labels, pairs, lam, criterion)
        assert_close(*got, rtol=1e-8)


def mixed_and_expected(
    case: Case,
    loss: torch.nn.Module,
    x: torch.Tensor,
    labels: torch.Tensor,
    pairs: str,
    lam: float | torch.Tensor,
    options: dict[str, object],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The mixed loss and its gradients, of a criterion with these options and of the loops."""
    inp = leaf(x)
    value = metrix(loss, **options).mixed_loss(inp, labels, pairs=pairs, lam=lam)
    of_loops = {name: option for name, option in options.items() if name != "mixed_margins"}
    return gradients(value, [inp, *loss.parameters()]), expected(case, loss, x, labels, pairs, lam, **of_loops)


@every_loss
@every_set
def test_reference_function(build: Build, name: str, pairs: str) -> None:
    case, loss = case_of(name), build(CASES[name])
    x, labels = batch("ragged", 3)
    lam = lambda_for(case, pairs, labels)
    for options in ({"renormalize": False, "hard_negatives": None}, {"renormalize": True, "hard_negatives": 2}):
        got = mx.reference.mixed_loss(loss, x, labels, pairs, lam, **options, mixed_margins=MARGINS)
        assert_close([got.detach()], expected(case, loss, x, labels, pairs, lam, **options)[:1], rtol=1e-9)


@pytest.mark.parametrize(("name", "pairs"), not_refused(WITH_MARGIN, PAIR_SETS))
@pytest.mark.parametrize("pool", ["avg", "avg+max"])
@pytest.mark.parametrize("drawn", [False, True])
def test_feature_maps(backend: str, build: Build, name: str, pairs: str, pool: str, drawn: bool) -> None:
    """A list of all mixes, or one mix for both orders; in one chunk, or one by one."""
    case, loss = case_of(name), build(CASES[name])
    x, labels = batch("ragged", 2)
    n = len(labels)
    source, pooled = feature_map(n), pooling_head(pool)
    lam = loop_oracle.pair_lambda(77, range(n), range(n), 2.0) if drawn else random_lambda((n, n))
    by_hand, drawn_with = head_by_hand(pooled, pool), 77 if drawn else None
    for workspace in (1, None) if pool == "avg+max" else (None,):
        criterion = metrix(loss, mix="feature", mixed_margins=MARGINS, workspace=workspace)
        assert_source_like_loops(criterion, case, x, labels, pairs, lam, source, pooled, by_hand, drawn_with)


@pytest.mark.parametrize(("name", "pairs"), not_refused(["ms", "contrastive", "pa"], PAIR_SETS))
@pytest.mark.parametrize(("mix", "hard"), [("feature", None), ("input", 2)])
def test_anything_encoded(backend: str, build: Build, name: str, pairs: str, mix: str, hard: int | None) -> None:
    case, loss = case_of(name), build(CASES[name])
    x, labels = batch("ragged", 2)
    source = torch.randn(len(labels), 3, 4, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    lam = random_lambda((len(labels), len(labels)))
    criterion = metrix(loss, mix=mix, mixed_margins=MARGINS, hard_negatives=hard or "all")
    given = labels, pairs, lam, source, SmallModel(3)
    assert_source_like_loops(criterion, case, x, *given, hard_negatives=hard)


@every_loss
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_one_lambda(backend: str, build: Build, name: str, pairs: str, lam: float) -> None:
    """Of exponentials the pos-neg sum is then a product."""
    case, loss = case_of(name), build(CASES[name])
    x, labels = batch("ragged", 3)
    assert_close(*mixed_and_expected(case, loss, x, labels, pairs, lam, {"mixed_margins": MARGINS}), rtol=1e-8)


@every_loss
@every_set
@pytest.mark.parametrize("lam", ["pair", "batch"])
def test_the_clean_part_has_its_own_margin(backend: str, build: Build, name: str, pairs: str, lam: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("ragged", 3)
    for renormalize in (False, True):
        criterion = metrix(
            loss, pairs=pairs, strength=0.7, lam=lam, renormalize=renormalize, mixed_margins=MARGINS
        )
        inp, inp2 = leaf(x), leaf(x)
        together = criterion(inp, labels, seed=4)
        apart = loss(inp2, labels) + 0.7 * criterion.mixed_loss(inp2, labels, pairs=pairs, seed=4)
        parameters = list(loss.parameters())
        assert_close(gradients(together, [inp, *parameters]), gradients(apart, [inp2, *parameters]), rtol=1e-10)


@pytest.mark.parametrize("name", ["ms", "binomial", "pa-paper"])
@every_set
def test_equal_margins_are_the_losses_own(backend: str, build: Build, name: str, pairs: str) -> None:
    loss = build(CASES[name])
    own = CASES[name].loss.margin
    x, labels = batch("ragged", 3)
    inp, inp2 = leaf(x), leaf(x)
    same = metrix(loss, mixed_margins=(own, own)).mixed_loss(inp, labels, pairs=pairs, seed=1)
    plain = metrix(loss).mixed_loss(inp2, labels, pairs=pairs, seed=1)
    assert_same_bits(gradients(same, [inp]), gradients(plain, [inp2]))


@pytest.mark.parametrize("name", ["ms", "lifted", "pa"])
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
def test_gradcheck(backend: str, build: Build, name: str, pairs: str) -> None:
    loss = build(CASES[name])
    x, labels = batch("pairs")
    lam = lambda_for(CASES[name], pairs, labels)
    criterion = metrix(loss, renormalize=True, mixed_margins=(0.5, 0.1))
    assert torch.autograd.gradcheck(lambda x: criterion.mixed_loss(x, labels, pairs, lam), leaf(x))


@pytest.mark.parametrize("rho", WITH_MARGINS)
def test_factorised_is_the_sum_over_pairs(backend: str, rho: str) -> None:
    if not mixing.factorises(WITH_MARGINS[rho], "pos-neg", torch.tensor([0.3]), False):
        return
    labels = LABELS.sort().values
    relations = Relations.from_labels(labels, labels, torch.arange(len(labels)))
    x = embeddings().detach()
    for lam in (0.0, 0.3, 1.0):
        given = x @ x.T, relations, WITH_MARGINS[rho]
        factorised, _ = factorised_sums(*given, torch.tensor([lam], dtype=x.dtype))
        over_pairs, _ = pair_sums(*given, "pos-neg", torch.tensor([lam], dtype=x.dtype))
        torch.testing.assert_close(factorised, over_pairs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("renormalize", [False, True])
def test_in_chunks(backend: str, pairs: str, renormalize: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of anchors, and windows of lambda and the Gram matrix."""
    x = embeddings()
    loss = mx.losses.MultiSimilarityLoss()
    criterion = metrix(loss, pairs=pairs, lam="pair", renormalize=renormalize, mixed_margins=MARGINS)
    whole = gradients(criterion(x, LABELS, seed=3), [x])
    in_chunks_of(2, monkeypatch, len(LABELS))
    assert_close(gradients(criterion(x, LABELS, seed=3), [x]), whole, rtol=1e-12)


@pytest.mark.parametrize("mix", ["embed", "feature", "input"])
def test_in_micro_batches(mix: str) -> None:
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix=mix, pairs="pos-neg", mixed_margins=MARGINS).double()
    modules = criterion, backbone(), head()
    want = loss_and_gradients(in_one_piece(mix, *images_and_labels()), *modules)
    assert_close(loss_and_gradients(in_micro_batches(*images_and_labels(), 5), *modules), want, rtol=1e-11)


@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
def test_a_memory(backend: str, build: Build, pairs: str) -> None:
    """The mixes of a batch with earlier embeddings."""
    x, labels = batch("ragged", 3)
    earlier, earlier_labels = batch("ragged", 5)
    criterion = metrix(build(CASES["ms"]), pairs=pairs, strength=0.7, mixed_margins=MARGINS, lam=0.4)
    memory = mx.memory.CrossBatchMemory(criterion, x.shape[1], memory_size=len(x) + len(earlier)).double()
    memory(earlier, earlier_labels)
    everything, all_labels = torch.cat((earlier, x)), torch.cat((earlier_labels, labels))
    own = len(earlier) + torch.arange(len(x))
    references = {"ref_emb": everything, "ref_labels": all_labels, "ref_self": own}
    loss = criterion.loss(x, labels, **references) + 0.7 * mx.reference.mixed_loss(
        criterion.loss, x, labels, pairs, 0.4, **references, mixed_margins=MARGINS
    )
    assert_close([memory(x, labels)], [loss], rtol=1e-10)


def test_by_hand(backend: str) -> None:
    """One anchor, one positive, one negative."""
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    lam, m_plus, m_minus = 0.25, 0.9, 0.1
    loss = mx.losses.BinomialDevianceLoss(beta=2.0, gamma=3.0, margin=0.5)
    s = torch.tensor([0.25 * 0.6 + 0.75 * 0.8, 0.25 * 0.6 + 0.75 * (0.6 * 0.8 - 0.8 * 0.6)], dtype=torch.float64)
    margin = lam * m_plus + (1 - lam) * m_minus
    positive, negative = lam * (-2 * (s - margin)).exp(), (1 - lam) * (3 * (s - margin)).exp()
    want = (positive.log1p() + negative.log1p()).sum() / 3
    got = metrix(loss, mixed_margins=(m_plus, m_minus)).mixed_loss(x, labels, pairs="pos-neg", lam=lam)
    assert_close([got], [want], rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if "nca" in name])
def test_losses_without_a_margin_refuse_them(build: Build, name: str) -> None:
    with pytest.raises(ValueError, match=r"mixed_margins: got .*, expected None with a loss that has no margin"):
        metrix(build(CASES[name]), mixed_margins=MARGINS)
    x, labels = batch("ragged")
    with pytest.raises(ValueError, match="mixed_margins"):
        mx.reference.mixed_loss(build(CASES[name]), x, labels, "pos-neg", 0.3, mixed_margins=MARGINS)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (0.5, ValueError),
        ("ab", ValueError),
        ((0.5,), ValueError),
        ((0.5, float("nan")), ValueError),
        ((0.5, None), TypeError),
    ],
)
def test_bad_margins(given: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="mixed_margins: got"):
        metrix(mx.losses.MultiSimilarityLoss(), mixed_margins=given)


def test_margins_are_shown() -> None:
    assert "mixed_margins=(0.6, -0.2)" in repr(metrix(mx.losses.MultiSimilarityLoss(), mixed_margins=MARGINS))
    assert "margins" not in repr(metrix(mx.losses.MultiSimilarityLoss()))


def test_both_sides_of_an_exponential_rho_have_one_range(backend: str) -> None:
    relations = Relations.from_labels(LABELS, LABELS, torch.arange(len(LABELS)))
    x = embeddings().detach()
    with pytest.raises(ValueError, match="margin_range"):
        pair_sums(x @ x.T, relations, (Rho(-1.0, margin_range=0.1), Rho(1.0)), "pos-neg", torch.tensor([0.5]))
