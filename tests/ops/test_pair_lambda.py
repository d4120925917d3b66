"""lambda of a pair: Philox, the Beta quantile, and that the split of the work does not matter."""

import itertools
import math

import pytest
import torch
from scipy.special import betaincinv

from metrix_ext import native, reference
from metrix_ext.ops import pair_lambda
from metrix_ext.terms.beta import quantile_polynomial
from tests.support.loop_oracle import philox4x32

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))


# Counter, key and first word of the answer: vectors that Random123 ships (kat_vectors).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), 0x6627E8D5),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), 0xD16CFE09),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], answer: int) -> None:
    i, j = torch.tensor([counter[0] | counter[2] << 32]), torch.tensor([counter[1] | counter[3] << 32])
    assert int(reference.philox((i, j), key[0] | key[1] << 32)) == answer
    assert philox4x32(counter, key)[0] == answer


@pytest.mark.parametrize("seed", [0, -1, 0x299F31D0A4093822])
def test_lambda_is_made_of_the_first_word_of_philox(seed: int) -> None:
    """Beta(1, 1) is uniform: its lambda is (word + 1/2) 2^-32."""
    rows = [0, 1, 7, 0x85A308D3, 0x0370734485A308D3]
    columns = [8, 0xFFFFFFFF, 2**32, 0x13198A2E243F6A88, 2**63 - 1]
    lam = pair_lambda(seed, torch.tensor(rows), torch.tensor(columns), 1.0, torch.float64)
    for r, c in itertools.product(range(len(rows)), range(len(columns))):
        low, high = sorted((rows[r], columns[c]))
        counter = tuple(value & 0xFFFFFFFF for value in (low, high, low >> 32, high >> 32))
        word = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))[0]
        of_low = lam[r, c] if rows[r] == low else 1 - lam[r, c]
        assert int(of_low * 2**32) == word


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 2.0, 7.5, 100.0])
def test_lambda_equals_the_reference(alpha: float) -> None:
    ids = torch.cat((torch.randperm(150), torch.tensor([2**31, 2**32 + 5, 2**40])))
    exact = reference.pair_lambda(-3, ids, ids, alpha)
    lam = pair_lambda(-3, ids, ids, alpha, torch.float64)
    assert (lam - exact).abs().max() < (1e-13 if alpha <= 2 else 4e-8)
    single = pair_lambda(-3, ids, ids, alpha)
    assert (single - exact).abs().max() <= 1e-7
    if alpha == 2:
        assert torch.equal(single, reference.pair_lambda(-3, ids, ids, alpha, torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lambda_does_not_depend_on_how_the_work_is_split(dtype: torch.dtype) -> None:
    ids = torch.randperm(200)
    whole = pair_lambda(7, ids, ids, 2.0, dtype)
    assert torch.equal(pair_lambda(torch.tensor(7), ids[30:95], ids[101:], 2.0, dtype), whole[30:95, 101:])
    assert torch.equal(whole + whole.T, torch.ones_like(whole))
    assert (whole.diagonal() == 0.5).all()


@pytest.mark.parametrize("alpha", [0.4, 2.0, 9.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    ids = torch.arange(600)
    lam = pair_lambda(11, ids, ids, alpha, torch.float64)[torch.ones(600, 600, dtype=torch.bool).triu(1)]
    quantiles = torch.tensor([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99], dtype=torch.float64)
    expected = torch.from_numpy(betaincinv(alpha, alpha, quantiles.numpy()))
    assert (lam.quantile(quantiles) - expected).abs().max() < 0.01
    other = pair_lambda(12, ids, ids, alpha, torch.float64)[torch.ones(600, 600, dtype=torch.bool).triu(1)]
    correlation = torch.corrcoef(torch.stack((lam, other)))[0, 1]
    assert correlation.abs() < 0.02


def test_quantile_polynomial_is_as_good_as_it_says() -> None:
    u = torch.logspace(-9.6, math.log10(0.5), 4000, dtype=torch.float64).numpy()
    for alpha, bound in ((0.05, 1e-14), (2.0, 2e-15), (8.0, 3e-11), (1000.0, 4e-8)):
        inverse_alpha, slope, offset, *coefficients = quantile_polynomial(alpha)
        v = (2 * u) ** inverse_alpha
        t = slope * v + offset
        value = v * sum(c * t**k for k, c in enumerate(coefficients))
        assert abs(value - betaincinv(alpha, alpha, u)).max() < bound
