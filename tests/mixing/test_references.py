"""References in Metrix: anchors are the batch, positives and negatives, clean and mixed, the references."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.batch import chunked
from tests.losses.against_loops import some_pairs
from tests.mixing.against_loops import every_set, metrix, random_lambda
from tests.mixing.sources import CHANNELS, SmallModel, feature_map, head_by_hand, pooling_head
from tests.support import loop_oracle
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, DIM, Tensors, batch, leaf
from tests.support.loss_tests import PROXY_CASES, Build, gradients, pair_case

within_references = pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos", "neg-neg"])
# Where the rows of the "pairs" layout (labels 0, 1, 2, 0, 1, 2) stand in the "ragged" one (1, 3, 1, 0, 1, 4, 3, 1).
COPIES = torch.tensor([3, 4, -1, -1, 0, -1])


def references(copies: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Anchors, their labels, and other examples, three of which may be known to be copies of anchors."""
    x, labels = batch("pairs")
    bank, bank_labels = batch("ragged", seed=7)
    given = {"ref_emb": bank, "ref_labels": bank_labels}
    if copies:
        for a, row in enumerate(COPIES.tolist()):
            bank[row] = x[a] if row >= 0 else bank[row]
        given["ref_self"] = COPIES
    return x, labels, given


def lambda_for(pairs: str, anchors: int, rows: int) -> Tensor:
    return random_lambda((anchors if pairs.startswith("anc-") else rows, rows))


def value_and_gradients(call: Any, x: Tensor, given: dict[str, Tensor]) -> Tensors:
    """Of call(x, **given), with respect to the anchors and to the references, each on its own."""
    x, bank = leaf(x), leaf(given["ref_emb"])
    return gradients(call(x, **{**given, "ref_emb": bank}), [x, bank])


@pair_case
@every_set
@pytest.mark.parametrize("copies", [False, True])
def test_like_the_loops(backend: str, build: Build, name: str, pairs: str, copies: bool) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels, given = references(copies)
    lam = lambda_for(pairs, len(x), len(given["ref_emb"]))
    for options in ({}, {"renormalize": True}, {"hard_negatives": 2}):
        criterion = metrix(loss, **options)
        got = value_and_gradients(lambda z, **r: criterion.mixed_loss(z, labels, pairs, lam, **r), x, given)  # noqa: B023
        want = value_and_gradients(
            lambda z, **r: loop_oracle.mixed_loss(case.loss, z, labels, pairs, lam, **options, **r),  # noqa: B023
            x,
            given,
        )
        literal = value_and_gradients(
            lambda z, **r: mx.reference.mixed_loss(loss, z, labels, pairs, lam, **options, **r),  # noqa: B023
            x,
            given,
        )
        assert_close(got, want, rtol=1e-10)
        assert_close(literal, want, rtol=1e-10)


@pair_case
@pytest.mark.parametrize("copies", [False, True])
def test_clean_like_the_loops(backend: str, build: Build, name: str, copies: bool) -> None:
    case, loss = CASES[name], build(CASES[name])
    x, labels, given = references(copies)
    got = value_and_gradients(lambda z, **r: loss(z, labels, **r), x, given)
    want = value_and_gradients(lambda z, **r: loop_oracle.clean_loss(case.loss, z, labels, **r), x, given)
    literal = value_and_gradients(lambda z, **r: mx.reference.clean_loss(loss, z, labels, **r), x, given)
    assert_close(got, want, rtol=1e-10)
    assert_close(literal, want, rtol=1e-10)


@every_set
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("renormalize", [False, True])
def test_in_chunks(
    backend: str, build: Build, pairs: str, rows: int, renormalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large memories are taken: the same to rounding."""
    x, labels, given = references(copies=True)
    criterion = metrix(build(CASES["ms"]), pairs=pairs, strength=0.7, renormalize=renormalize)
    whole = value_and_gradients(lambda z, **r: criterion(z, labels, seed=3, **r), x, given)
    monkeypatch.setattr(chunked, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(chunked, "WORKSPACE", rows * chunked.MATRICES * len(given["ref_emb"]) * 8)
    got = value_and_gradients(lambda z, **r: criterion(z, labels, seed=3, **r), x, given)
    assert_close(got, whole, rtol=1e-12)


@pair_case
@every_set
def test_error_and_its_parts(backend: str, build: Build, name: str, pairs: str) -> None:
    """Eq. (10): the clean loss of the references plus the strength times the mixed one."""
    loss = build(CASES[name])
    x, labels, given = references(copies=True)
    criterion = metrix(loss, pairs=pairs, strength=0.7)
    parts = criterion.parts(x, labels, seed=4, **given)
    clean, mixed = loss(x, labels, **given), criterion.mixed_loss(x, labels, pairs=pairs, seed=4, **given)
    assert_close(list(parts), [clean + 0.7 * mixed, clean, mixed], rtol=1e-12)
    assert_same_bits([parts.loss], [criterion(x, labels, seed=4, **given)])


@pair_case
@every_set
def test_copies_of_the_whole_batch_are_the_batch(backend: str, build: Build, name: str, pairs: str) -> None:
    """In another order, and with the lambdas of the same pairs of rows: what the references get adds up."""
    loss = build(CASES[name])
    x, labels = batch("ragged")
    criterion = metrix(loss, pairs=pairs, renormalize=True, strength=0.7)
    inp, anchors = leaf(x), leaf(x.roll(3, 0))
    want = gradients(criterion(inp, labels, seed=5), [inp])
    ref_self = torch.arange(len(labels)).roll(3)
    bank = leaf(x)
    value = criterion(anchors, labels.roll(3), seed=5, ref_emb=bank, ref_labels=labels, ref_self=ref_self)
    got, of_anchors, of_bank = gradients(value, [anchors, bank])
    assert_close([got, of_anchors.roll(-3, 0) + of_bank], want, rtol=1e-10)


@every_set
def test_the_batch_itself_is_no_reference(build: Build, pairs: str) -> None:
    x, labels = batch("ragged")
    criterion = metrix(build(CASES["ms"]), pairs=pairs)
    assert_same_bits([criterion(x, labels, seed=5, ref_emb=x, ref_labels=labels)], [criterion(x, labels, seed=5)])


@every_set
@pytest.mark.parametrize("copies", [False, True])
def test_lambda_knows_rows_of_references(backend: str, build: Build, pairs: str, copies: bool) -> None:
    """And an anchor by its copy, or as one that comes after all of them."""
    x, labels, given = references(copies)
    r = len(given["ref_emb"])
    ids = torch.arange(r, r + len(x))
    if copies:
        ids = torch.where(COPIES < 0, ids, COPIES)
    rows = ids.tolist() if pairs.startswith("anc-") else range(r)
    lam = loop_oracle.pair_lambda(11, rows, range(r), 2.0)
    criterion = metrix(build(CASES["ms"]))
    drawn = criterion.mixed_loss(x, labels, pairs, seed=11, **given)
    assert_close([drawn], [criterion.mixed_loss(x, labels, pairs, lam, **given)], rtol=1e-12)


@every_set
def test_mined_pairs(backend: str, build: Build, pairs: str) -> None:
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels, given = references(copies=False)
    lam = lambda_for(pairs, len(x), len(given["ref_emb"]))
    given["indices_tuple"] = some_pairs(labels, given["ref_labels"], same_batch=False)
    got = value_and_gradients(lambda z, **r: metrix(loss).mixed_loss(z, labels, pairs, lam, **r), x, given)
    want = value_and_gradients(lambda z, **r: loop_oracle.mixed_loss(case.loss, z, labels, pairs, lam, **r), x, given)
    assert_close(got, want, rtol=1e-10)


@within_references
@pytest.mark.parametrize("pool", ["avg", "avg+max", "model"])
@pytest.mark.parametrize("hard", ["all", 2])
def test_sources_of_the_references(backend: str, build: Build, pairs: str, pool: str, hard: int | str) -> None:
    """Feature maps and images are mixed as embeddings are, where all of a pair are references."""
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels, given = references(copies=True)
    source = feature_map(len(given["ref_emb"]))
    encode: nn.Module = SmallModel(CHANNELS) if pool == "model" else pooling_head(pool)
    by_hand = encode if pool == "model" else head_by_hand(encode, pool)
    lam = lambda_for(pairs, len(x), len(source))
    criterion = metrix(loss, mix="input" if pool == "model" else "feature", pairs=pairs, hard_negatives=hard)
    inp, maps, inp2, maps2 = leaf(x), leaf(source), leaf(x), leaf(source)
    got = criterion.mixed_loss(inp, labels, pairs, lam, source=maps, encode=encode, **given)
    want = loop_oracle.mixed_loss(
        case.loss,
        inp2,
        labels,
        pairs,
        lam,
        source=maps2,
        encode=by_hand,
        hard_negatives=None if hard == "all" else hard,
        **given,
    )
    weights = list(encode.parameters())
    assert_close(gradients(got, [inp, maps, *weights]), gradients(want, [inp2, maps2, *weights]), rtol=1e-8)


@pytest.mark.parametrize("mix", ["feature", "input"])
@pytest.mark.parametrize("pairs", ["anc-neg", "anc-pos", ("pos-neg", "anc-neg")])
def test_sources_of_anchors_are_refused(build: Build, mix: str, pairs: Any) -> None:
    """In every call, whatever is drawn."""
    x, labels, given = references(copies=False)
    criterion = metrix(build(CASES["ms"]), mix=("embed", mix), pairs=pairs)
    source = {"source": feature_map(len(x)), "encode": pooling_head("avg")}
    with pytest.raises(ValueError, match=f"ref_emb: 'anc-.*only mix='embed'.*mix='{mix}' pass pairs='pos-neg'"):
        criterion(x, labels, **source, **given)
    with pytest.raises(ValueError, match="source is of the references alone"):
        metrix(build(CASES["ms"]), mix=mix).mixed_loss(x, labels, "anc-neg", **source, **given)


def test_a_source_of_the_batch_is_refused(build: Build) -> None:
    x, labels, given = references(copies=False)
    criterion = metrix(build(CASES["ms"]), mix="feature")
    with pytest.raises(ValueError, match=r"source: got \[6, 5, 3, 2\], expected 8 rows of numbers as ref_emb"):
        criterion(x, labels, source=feature_map(len(x)), encode=pooling_head("avg"), **given)


@pytest.mark.parametrize("name", PROXY_CASES)
def test_proxies_have_no_references(build: Build, name: str) -> None:
    x, labels, given = references(copies=False)
    loss = build(CASES[name])
    for call in (loss, metrix(loss), metrix(loss).parts, metrix(loss).mixed_loss):
        with pytest.raises(ValueError, match=r"ref_emb, ref_labels, ref_self: Proxy.* compares examples with its prox"):
            call(x, labels, **given)


@pytest.mark.parametrize(
    ("ref_self", "words"),
    [
        ([8, -1, -1, -1, -1, -1], "ref_self: got 8, expected -1 to 7"),
        ([-1, -2, -1, -1, -1, -1], "ref_self: got -2, expected -1 to 7"),
        ([-1, 0, -1, 1, -1, -1], "ref_self: got 1 for example 3, expected a reference of its label"),
        ([0, 1], r"ref_self: got \[2\], expected \[6\] as embeddings"),
        ([0.5] * 6, "ref_self: got list of float, expected integers"),
    ],
)
def test_rows_that_cannot_be_copies(build: Build, ref_self: list[float], words: str) -> None:
    x, labels, given = references(copies=False)
    for call in (build(CASES["ms"]), metrix(build(CASES["ms"]))):
        with pytest.raises((TypeError, ValueError), match=words):
            call(x, labels, **given, ref_self=ref_self)


def test_rows_of_no_references(build: Build) -> None:
    x, labels = batch("pairs")
    with pytest.raises(ValueError, match="ref_self: given without ref_emb"):
        build(CASES["ms"])(x, labels, ref_self=COPIES)
    with pytest.raises(ValueError, match="ref_emb, ref_labels: one is given without the other"):
        metrix(build(CASES["ms"]))(x, labels, ref_emb=x.clone())


@pytest.mark.parametrize("layout", ["none", "one"])
@every_set
def test_few_references(backend: str, build: Build, layout: str, pairs: str) -> None:
    """Nothing to mix is a loss of 0 with a gradient of 0, and no anchor needs a reference."""
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels = batch("pairs")
    bank, bank_labels = batch(layout, seed=7)
    given = {"ref_emb": bank, "ref_labels": bank_labels}
    criterion, lam = metrix(loss), 0.3
    got = value_and_gradients(lambda z, **r: criterion.mixed_loss(z, labels, pairs, lam, **r), x, given)
    want = value_and_gradients(lambda z, **r: loop_oracle.mixed_loss(case.loss, z, labels, pairs, lam, **r), x, given)
    assert_close(got, want, rtol=1e-10)


def test_compiles_as_one_graph(backend: str, build: Build) -> None:
    torch.compiler.reset()
    x, labels, given = references(copies=True)
    criterion = metrix(build(CASES["ms"]), pairs="anc-neg", strength=0.7, lam=0.3)
    got = torch.compile(criterion, fullgraph=True, backend="aot_eager")(x, labels, **given)
    assert_close([got], [criterion(x, labels, **given)], rtol=1e-12)


def test_no_device_is_waited_for(build: Build) -> None:
    """On the meta device there is no value to wait for."""
    x = torch.empty(6, DIM, device="meta", requires_grad=True)
    bank = torch.empty(8, DIM, device="meta")
    labels, bank_labels, ref_self = (torch.empty(n, dtype=torch.int64, device="meta") for n in (6, 8, 6))
    loss = build(CASES["ms"], dtype=torch.float32).to("meta")
    for pairs in loop_oracle.PAIR_SETS:
        value = metrix(loss, pairs=pairs)(x, labels, ref_emb=bank, ref_labels=bank_labels, ref_self=ref_self)
        value.backward()
