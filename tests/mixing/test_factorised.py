"""One lambda per batch: sums that factorise over positives and negatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.mixing import embeddings as mixing
from metrix_ext.mixing.factorised import factorised_sums
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.relations import Relations
from tests.mixing.small_batch import LABELS, embeddings
from tests.support.problems import RHO


def both_ways(lam: float, dtype: torch.dtype, masked: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Sums and gradient of the similarities, factorised and over all pairs."""
    labels = LABELS.sort().values
    relations = Relations.from_labels(labels, labels, torch.arange(len(labels)))
    if masked:
        torch.manual_seed(0)
        relations = relations.keep_pairs(torch.randint(-1, 2, (len(labels), len(labels)), dtype=torch.int8))
    given = torch.tensor([lam], dtype=dtype)
    results = []
    for way in ("factorised", "pairs"):
        x = embeddings().detach()
        similarity = (x @ x.T).to(dtype).requires_grad_()
        if way == "factorised":
            sums, _ = factorised_sums(similarity, relations, RHO["exp"], given)
        else:
            sums, _ = pair_sums(similarity, relations, RHO["exp"], "pos-neg", given)
        sums.backward(torch.linspace(0.5, 1.5, sums.numel(), dtype=dtype).reshape(sums.shape))
        results.append((sums.detach(), similarity.grad))
    return results


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lam", [0.0, 1e-6, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_factorised_is_the_sum_over_pairs(
    backend: str, lam: float, masked: bool, dtype: torch.dtype, tolerance: float
) -> None:
    (sums, gradient), (expected, expected_gradient) = both_ways(lam, dtype, masked)
    torch.testing.assert_close(sums, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=tolerance * 75)
    assert (sums == -math.inf).any()  # a class of one example has no pairs


def test_factorised_empty_sums_ignore_the_upstream_gradient(backend: str) -> None:
    labels = torch.arange(4)
    relations = Relations.from_labels(labels, labels, labels)
    similarity = torch.rand(4, 4, requires_grad=True)
    sums, _ = factorised_sums(similarity, relations, RHO["exp"], torch.tensor([0.3]))
    sums.backward(torch.full_like(sums, math.nan))
    assert torch.equal(similarity.grad, torch.zeros(4, 4))


def test_factorised_keeps_nan(backend: str) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    relations = Relations.from_labels(labels, labels, torch.arange(4))
    similarity = torch.rand(4, 4)
    similarity[0, 1] = math.nan
    sums, _ = factorised_sums(similarity, relations, RHO["exp"], torch.tensor([0.3]))
    assert sums[0].isnan().all()
    assert sums[1:].isfinite().all()


def test_metrix_factorises_by_itself(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def counted(*args: object) -> tuple[Tensor, Tensor]:
        used.append(args)
        return factorised_sums(*args)

    monkeypatch.setattr(mixing, "factorised_sums", counted)
    loss = mx.losses.MultiSimilarityLoss()
    x = embeddings()
    criterion = mx.Metrix(loss, mix="embed", pairs="pos-neg", lam=0.3)
    given = criterion.mixed_loss(x, LABELS)
    assert used
    expected = mx.reference.mixed_loss(loss, x, LABELS, "pos-neg", 0.3)
    torch.testing.assert_close(given, expected)
    used.clear()
    mx.Metrix(loss, mix="embed", pairs="pos-neg", lam=0.3, renormalize=True).mixed_loss(x, LABELS)
    mx.Metrix(mx.losses.ContrastiveLoss(), mix="embed", pairs="pos-neg", lam=0.3).mixed_loss(x, LABELS)
    criterion.mixed_loss(x, LABELS, lam=torch.full((len(x), len(x)), 0.3, dtype=x.dtype))
    assert not used
