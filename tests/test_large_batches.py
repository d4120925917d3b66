"""What lets large batches run: sums in chunks of anchors, and the factorised sums of one lambda per batch."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import chunked
from metrix_ext.factorised import factorised_sums
from metrix_ext.formula import Rho
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.relations import Relations

RHO = Rho(-18.0, 18 * 0.77), Rho(75.0, -75 * 0.77)
LABELS = torch.tensor([2, 0, 1, 0, 2, 2, 3, 0, 4, 2, 1])


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    if reason := mx.backend.why_not(request.param):
        pytest.skip(reason)
    with mx.use_backend(request.param):
        yield request.param


def embeddings(n: int = len(LABELS), dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(n)
    return F.normalize(torch.randn(n, 6, dtype=dtype)).requires_grad_()


# ---- one lambda per batch -----------------------------------------------------------------------------------


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
        x = embeddings(dtype=torch.float64).detach()
        similarity = (x @ x.T).to(dtype).requires_grad_()
        if way == "factorised":
            sums, _ = factorised_sums(similarity, relations, RHO, given)
        else:
            sums, _ = pair_sums(similarity, relations, RHO, "pos-neg", given)
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
    sums, _ = factorised_sums(similarity, relations, RHO, torch.tensor([0.3]))
    sums.backward(torch.full_like(sums, math.nan))
    assert torch.equal(similarity.grad, torch.zeros(4, 4))


def test_factorised_keeps_nan(backend: str) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    relations = Relations.from_labels(labels, labels, torch.arange(4))
    similarity = torch.rand(4, 4)
    similarity[0, 1] = math.nan
    sums, _ = factorised_sums(similarity, relations, RHO, torch.tensor([0.3]))
    assert sums[0].isnan().all()
    assert sums[1:].isfinite().all()


def test_metrix_factorises_by_itself(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def counted(*args: object) -> tuple[Tensor, Tensor]:
        used.append(args)
        return factorised_sums(*args)

    monkeypatch.setattr(mx.mixing, "factorised_sums", counted)
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


# ---- chunks of anchors --------------------------------------------------------------------------------------


LOSSES = {
    "ms": mx.losses.MultiSimilarityLoss,
    "lifted": mx.losses.LiftedStructureLoss,
    "contrastive": lambda: mx.losses.ContrastiveLoss(aggregate="mean-nonzero"),
    "pa": lambda: mx.losses.ProxyAnchorLoss(5, 6).double(),
    "proxynca": lambda: mx.losses.ProxyNCALoss(5, 6).double(),
}
MIXED = [("anc-neg", False), ("anc-neg", True), ("anc-pos", True), ("pos-neg", False)]


def value_and_gradients(error: Tensor, loss: torch.nn.Module, x: Tensor) -> list[Tensor]:
    return [error.detach(), *torch.autograd.grad(error, [x, *loss.parameters()])]


def in_chunks_of(rows: int, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(chunked, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(chunked, "WORKSPACE", rows * chunked.MATRICES * n * 8)


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize(
    ("name", "mined"),
    [*((name, False) for name in LOSSES), *((name, True) for name in ("ms", "lifted", "contrastive"))],
)
def test_clean_loss_in_chunks(backend: str, name: str, rows: int, mined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    loss, x = LOSSES[name](), embeddings()
    pairs = None
    if mined:
        pairs = (torch.tensor([0, 1, 0]), torch.tensor([4, 3, 5]), torch.tensor([2, 1, 1]), torch.tensor([3, 0, 10]))
    expected = value_and_gradients(loss(x, LABELS, pairs), loss, x)
    in_chunks_of(rows, monkeypatch, len(LABELS))
    for given, right in zip(value_and_gradients(loss(x, LABELS, pairs), loss, x), expected, strict=True):
        torch.testing.assert_close(given, right, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("pairs", "renormalize"), MIXED)
@pytest.mark.parametrize("lam", ["pair", "batch"])
def test_mixed_loss_in_chunks(
    backend: str, name: str, pairs: str, renormalize: bool, lam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    loss, x = LOSSES[name](), embeddings()
    criterion = mx.Metrix(loss, mix="embed", pairs=pairs, lam=lam, renormalize=renormalize)

    def run() -> list[Tensor]:
        return value_and_gradients(criterion(x, LABELS, seed=3), loss, x)

    expected = run()
    in_chunks_of(2, monkeypatch, len(LABELS))
    for given, right in zip(run(), expected, strict=True):
        torch.testing.assert_close(given, right, rtol=1e-12, atol=1e-14)


def test_backward_recomputes_on_the_backend_of_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    in_chunks_of(2, monkeypatch, len(LABELS))
    loss, x = mx.losses.MultiSimilarityLoss(), embeddings()
    expected = torch.autograd.grad(loss(x, LABELS), x)
    with mx.use_backend("reference"):
        error = loss(x, LABELS)
    torch.testing.assert_close(torch.autograd.grad(error, x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_peak_memory(mixed: bool) -> None:
    """n = 16,384: one matrix of similarities would be 1 GiB. A process of its own has a peak of its own."""
    program = f"""
        import resource, torch, metrix_ext as mx
        from metrix_ext import chunked
        torch.manual_seed(0)
        loss = mx.losses.MultiSimilarityLoss()
        criterion = mx.Metrix(loss, mix="embed", pairs="anc-neg", renormalize=True) if {mixed} else loss

        def peak_of_step(n):
            x = torch.randn(n, 64, requires_grad=True)
            criterion(x, torch.arange(n) // 8).backward()
            assert x.grad.isfinite().all() and x.grad.abs().max() > 0
            return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        whole, chunked.LARGEST_WHOLE = chunked.LARGEST_WHOLE, 0
        before = peak_of_step(600)  # what is imported at the first chunk is not of the step
        chunked.LARGEST_WHOLE = whole
        print(peak_of_step(16384) - before)
    """
    # Fixing the threshold makes the allocator return what is freed, so that the peak is of what is alive.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * chunked.WORKSPACE
