"""Large batches: sums in chunks of anchors, recomputed in backward."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.batch import chunked
from metrix_ext.batch.candidates import candidates_from_examples, candidates_from_proxies
from metrix_ext.mixing import embeddings as mixing
from metrix_ext.mixing.embeddings import mix_embeddings
from metrix_ext.mixing.lambdas import sample_lambda
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.relations import Relations
from tests.mixing.small_batch import LABELS, embeddings
from tests.support.problems import RHO

LOSSES = {
    "ms": mx.losses.MultiSimilarityLoss,
    "lifted": mx.losses.LiftedStructureLoss,
    "contrastive": lambda: mx.losses.ContrastiveLoss(aggregate="mean-nonzero"),
    "pa": lambda: mx.losses.ProxyAnchorLoss(5, 6).double(),
    "proxynca": lambda: mx.losses.ProxyNCALoss(5, 6).double(),
}
MIXED = [("anc-neg", False), ("anc-neg", True), ("anc-pos", True)]
WITHIN = [("pos-neg", False), ("pos-neg", True), ("pos-pos", False), ("pos-pos", True)]


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
@pytest.mark.parametrize(("pairs", "renormalize"), [*MIXED, *WITHIN])
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


@pytest.mark.usefixtures("two_threads")
def test_no_error_of_the_norms_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalised anchors: s(a, a) is a constant, and its large radial gradient is not formed and taken out again."""
    if reason := mx.backend.why_not("cpu"):
        pytest.skip(reason)
    monkeypatch.setattr(chunked, "LARGEST_WHOLE", 0)
    n = 1024
    x = torch.randn(n, 512, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="embed", pairs="anc-neg")
    gradients = []
    for dtype in (torch.float64, torch.float32):
        leaf = x.to(dtype, copy=True).requires_grad_()
        criterion.mixed_loss(leaf, torch.arange(n) // 8, pairs="anc-neg", seed=3).backward()
        gradients.append(leaf.grad.double())
    assert (gradients[1] - gradients[0]).norm() < 9e-7 * gradients[0].norm()


@pytest.mark.parametrize(("pairs", "renormalize"), [*MIXED, *WITHIN])
def test_clean_and_mixed_sums_read_the_same_similarities(
    pairs: str, renormalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks both are reduced from one product of matrices forward, and one in backward."""
    if reason := mx.backend.why_not("cpu"):
        pytest.skip(reason)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="embed", pairs=pairs, renormalize=renormalize)
    in_chunks_of(100, monkeypatch, len(LABELS))
    products = []
    inner_products = chunked.inner_products
    monkeypatch.setattr(chunked, "inner_products", lambda x, y: products.append(x) or inner_products(x, y))
    criterion(embeddings(), LABELS, seed=3).backward()
    assert len(products) == 2


def recorded_windows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """First and one past the last example of each window that mixing asks sums of."""
    windows = []

    def recorded(similarity: Tensor, relations: Relations, rho: object, pairs: str, lam: Tensor, *args, **kwargs):
        begin = kwargs.get("first_row", 0)
        windows.append((begin, begin + len(lam)))
        return pair_sums(similarity, relations, rho, pairs, lam, *args, **kwargs)

    monkeypatch.setattr(mixing, "pair_sums", recorded)
    return windows


# Classes of 3, 2, 4, 1 and 1 examples.
@pytest.mark.parametrize(
    ("rows", "windows"),
    [
        (1, [(0, 3), (3, 5), (5, 9), (9, 10), (10, 11)]),
        (2, [(0, 3), (3, 5), (5, 9), (9, 11)]),
        (5, [(0, 5), (5, 10), (10, 11)]),
        (100, [(0, 11)]),
    ],
)
@pytest.mark.parametrize(("pairs", "renormalize"), WITHIN)
@pytest.mark.parametrize("anchors", ["examples", "others", "proxies"])
def test_windows_of_whole_classes(
    backend: str,
    rows: int,
    windows: list[tuple[int, int]],
    pairs: str,
    renormalize: bool,
    anchors: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anchors that are no examples come in any order, and some have no positives."""
    torch.manual_seed(0)
    leaves = [embeddings(), embeddings(7)]

    def run() -> list[Tensor]:
        x, others = leaves
        if anchors == "examples":
            batch = candidates_from_examples(x, LABELS, None, None, None, True)
        elif anchors == "others":
            batch = candidates_from_examples(others, torch.tensor([4, 2, 9, 0, 1, 3, 0]), None, x, LABELS, True)
        else:
            batch = candidates_from_proxies(x, LABELS, others, True, proxies_are_anchors=True)
        lam = sample_lambda(batch, pairs, "pair", 2.0, seed=3)
        sums, _ = mix_embeddings(batch, RHO["exp"], pairs, lam, renormalize)
        weights = torch.linspace(0.5, 1.5, sums.numel(), dtype=sums.dtype).reshape(sums.shape)
        error = (sums.masked_fill(sums == -math.inf, 0) * weights).sum()
        return [sums.detach(), *torch.autograd.grad(error, leaves[:1] if anchors == "examples" else leaves)]

    expected = run()
    in_chunks_of(rows, monkeypatch, len(LABELS))
    used = recorded_windows(monkeypatch)
    for given, right in zip(run(), expected, strict=True):
        torch.testing.assert_close(given, right, rtol=1e-12, atol=1e-14)
    if anchors == "examples":
        assert used == [*windows, *reversed(windows)]  # forward, and again in backward
    assert all(end - begin <= max(rows, 4) for begin, end in used)


@pytest.mark.parametrize("pairs", ["pos-neg", "neg-neg"])
def test_what_has_no_windows_stays_whole(backend: str, pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, x = mx.losses.MultiSimilarityLoss(), embeddings()
    matrix = torch.rand(len(x), len(x), dtype=x.dtype)
    hardest = 3 if pairs == "pos-neg" else None  # a mask
    criterion = mx.Metrix(loss, mix="embed", pairs=pairs, strength=0.5, renormalize=True, hard_negatives=hardest)

    def run() -> list[Tensor]:
        return value_and_gradients(criterion.mixed_loss(x, LABELS, pairs, matrix), loss, x)

    expected = run()
    in_chunks_of(2, monkeypatch, len(LABELS))
    used = recorded_windows(monkeypatch)
    for given, right in zip(run(), expected, strict=True):
        assert torch.equal(given, right)
    assert used == [(0, len(LABELS))]


def test_windows_without_anchors(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_chunks_of(2, monkeypatch, 5)
    loss = mx.losses.ProxyNCALoss(5, 6).double()
    criterion = mx.Metrix(loss, mix="embed", pairs="pos-neg", renormalize=True)
    none, labels = torch.zeros(0, 6, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    in_windows = criterion.mixed_loss(none, labels)
    monkeypatch.undo()
    torch.testing.assert_close(in_windows, criterion.mixed_loss(none, labels), equal_nan=True)


def test_backward_recomputes_on_the_backend_of_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    in_chunks_of(2, monkeypatch, len(LABELS))
    loss, x = mx.losses.MultiSimilarityLoss(), embeddings()
    expected = torch.autograd.grad(loss(x, LABELS), x)
    with mx.use_backend("reference"):
        error = loss(x, LABELS)
    torch.testing.assert_close(torch.autograd.grad(error, x), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "n"), [(None, 20_000), ("anc-neg", 20_000), ("pos-neg", 10_000)])
def test_peak_memory(pairs: str | None, n: int) -> None:
    """One matrix of similarities would be 1.5 GiB, or 380 MiB, of several. A process of its own has its own peak."""
    program = f"""
        import resource, torch, metrix_ext as mx
        from functools import partial
        from metrix_ext.batch import chunked
        torch.manual_seed(0)
        loss = mx.losses.MultiSimilarityLoss()
        criterion = loss
        if {pairs!r}:
            criterion = partial(mx.Metrix(loss, mix="embed", renormalize=True).mixed_loss, pairs={pairs!r})

        def peak_of_step(n):
            x = torch.randn(n, 64, requires_grad=True)
            criterion(x, torch.arange(n) // 8).backward()
            assert x.grad.isfinite().all() and x.grad.abs().max() > 0
            return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        whole, chunked.LARGEST_WHOLE = chunked.LARGEST_WHOLE, 0
        before = peak_of_step(600)  # what is imported at the first chunk is not of the step
        chunked.LARGEST_WHOLE = whole
        print(peak_of_step({n}) - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * chunked.WORKSPACE


@pytest.mark.parametrize(("on_gpu", "rows"), [(False, 160), (True, 512)])
def test_rows_of_a_chunk(monkeypatch: pytest.MonkeyPatch, on_gpu: bool, rows: int) -> None:
    """Of 65,536 examples in float32: many on a GPU, which few and large products suit."""
    examples = torch.empty(1).expand(65536, 4)
    batch = SimpleNamespace(examples=examples)
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: on_gpu))
    assert chunked._rows_of_chunk(batch) == rows
