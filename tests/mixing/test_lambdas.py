"""lambda: drawn per pair of examples by a counter, per call, or given."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

import metrix_ext as mx
from tests.mixing.against_loops import expected, metrix, mixed_and_gradients, random_lambda
from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, batch, leaf
from tests.support.loss_tests import PROXY_CASES, Build, gradients


def test_oracle_against_published_vectors() -> None:
    """The known answers that Random123 ships for Philox-4x32-10."""

    def words(text: str) -> tuple[int, ...]:
        return tuple(int(word, 16) for word in text.split())

    known = [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ]
    for counter, key, answer in known:
        assert loop_oracle.philox4x32(words(counter), words(key)) == words(answer)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**62 + 12345])
def test_reference(alpha: float, seed: int) -> None:
    rows = torch.tensor([0, 1, 5, 1000, 2**31, 2**32, 2**32 + 1, 2**40 + 7])
    cols = torch.tensor([1, 0, 5, 2**32 + 1, 7])
    want = loop_oracle.pair_lambda(seed, rows.tolist(), cols.tolist(), alpha)
    got = mx.reference.pair_lambda(seed, rows, cols, alpha).double()
    assert float(((got - want) / want).abs().max()) < (1e-13 if alpha == 2.0 else 1e-8)


def test_symmetric() -> None:
    index = torch.arange(50)
    lam = mx.reference.pair_lambda(3, index, index, 2.0).double()
    assert torch.equal(lam, 1.0 - lam.T) or float((lam + lam.T - 1.0).abs().max()) < 1e-15
    assert (lam.diagonal() == 0.5).all()
    assert ((lam > 0) & (lam < 1)).all()


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_distribution(alpha: float) -> None:
    index = torch.arange(80)
    lam = mx.reference.pair_lambda(11, index, index, alpha).double()
    sample = lam[torch.triu(torch.ones(80, 80, dtype=torch.bool), 1)]
    assert stats.kstest(sample.numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.4, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_the_loss(backend: str, build: Build, alpha: float, dtype: torch.dtype) -> None:
    """lam="pair" is the tensor of the same seed; every backend draws the same."""
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels = batch("ragged")
    n = len(labels)
    lam = loop_oracle.pair_lambda(2**40 + 9, range(n), range(n), alpha)
    got = mixed_and_gradients(loss, x.to(dtype), labels, "pos-neg", None, 2**40 + 9, alpha=alpha)
    want = expected(case, loss, x.to(dtype).double(), labels, "pos-neg", lam)
    assert_close(got, want, *((1e-6, 1e-13) if dtype == torch.float64 else (1e-4, 1e-6)))


def test_one_lambda_per_unordered_pair(backend: str, build: Build) -> None:
    """Two examples of two classes: i mixes {0, 1} with lambda, 1 mixes it with 1 - lambda."""
    x, labels = batch("two unlike")
    loss = build(CASES["contrastive"], margin=-5.0)
    u = F.normalize(x, dim=1)
    got = metrix(loss).mixed_loss(x, labels, pairs="anc-neg", seed=4)
    lam = loop_oracle.lambda_of(4, 0, 1, 2.0)
    want = 0.0
    for i, weight in ((0, lam), (1, 1.0 - lam)):
        s = float(u[i] @ (weight * u[i] + (1 - weight) * u[1 - i]))
        want += (-weight * s + (1 - weight) * (s + 5.0)) / 2
    assert math.isclose(got.item(), want, rel_tol=1e-9)


def batch_lambda(build: Build, seed: int | None) -> float:
    """The lambda of one call, recovered from a loss that is linear in it: -(lam + (1 - lam) s)."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    criterion = metrix(build(CASES["contrastive"]), lam="batch")
    return -float(criterion.mixed_loss(x, torch.tensor([0, 0]), pairs="anc-pos", seed=seed))


def test_one_per_call(build: Build) -> None:
    case, loss = CASES["ms"], build(CASES["ms"])
    x, labels = batch("ragged")
    for seed in range(3):
        lam = batch_lambda(build, seed)
        assert 0.0 < lam < 1.0
        inp = leaf(x)
        value = metrix(loss, lam="batch").mixed_loss(inp, labels, pairs="pos-neg", seed=seed)
        got = gradients(value, [inp])
        assert_close(got, expected(case, loss, x, labels, "pos-neg", lam), rtol=1e-7)


def test_distribution_over_calls(build: Build) -> None:
    torch.manual_seed(0)
    for seeds in ([None] * 300, list(range(300))):
        sample = [batch_lambda(build, seed) for seed in seeds]
        assert stats.kstest(sample, "beta", args=(2.0, 2.0)).pvalue > 1e-3


@pytest.mark.parametrize("name", PROXY_CASES)
@pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg", "anc-pos"])
def test_with_proxies(backend: str, build: Build, name: str, pairs: str) -> None:
    """Sampled mixes of proxies and examples: set by the seed, and different from pair to pair."""
    loss = build(CASES[name])
    x, labels = batch("ragged")
    criterion = metrix(loss)
    values = [criterion.mixed_loss(x, labels, pairs=pairs, seed=seed).item() for seed in (1, 1, 2)]
    assert values[0] == values[1]
    if values[0] != 0.0:
        assert values[0] != values[2]


@pytest.mark.parametrize("lam", ["pair", "batch"])
def test_drawn_anew_at_each_call(build: Build, lam: str) -> None:
    x, labels = batch("ragged")
    criterion = metrix(build(CASES["ms"]), lam=lam)

    def three() -> list[float]:
        torch.manual_seed(5)
        return [criterion.mixed_loss(x, labels, pairs="pos-neg").item() for _ in range(3)]

    first = three()
    assert len(set(first)) == 3
    assert three() == first


def test_fixed(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = batch("ragged")
    lam = random_lambda((len(labels), len(labels)))
    for fixed in (0.3, lam):
        given = metrix(loss).mixed_loss(x, labels, pairs="pos-neg", lam=fixed)
        assert torch.equal(metrix(loss, lam=fixed).mixed_loss(x, labels, pairs="pos-neg"), given)
