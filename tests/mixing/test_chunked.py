"""What lets large batches run: sums in chunks of anchors, and the factorised sums of one lambda per batch."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext.batch import chunked
from metrix_ext.batch.candidates import candidates_from_examples, candidates_from_proxies
from metrix_ext.mixing import embeddings as embedding_mixup
from metrix_ext.mixing.embeddings import mix_embeddings
from metrix_ext.mixing.factorised import factorised_sums
from metrix_ext.mixing.lambdas import sample_lambda
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import Rho, flat
from metrix_ext.terms.relations import Relations
from tests.support.problems import WINDOWS, make_problem

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

    monkeypatch.setattr(embedding_mixup, "factorised_sums", counted)
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

    monkeypatch.setattr(embedding_mixup, "pair_sums", recorded)
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
        sums, _ = mix_embeddings(batch, RHO, pairs, lam, renormalize)
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


# ---- windows of lambda and gram -----------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_sums_of_a_window(window: tuple[int, int], pairs: str, rho: str) -> None:
    if reason := mx.backend.why_not("cpu"):
        pytest.skip(reason)
    for renormalize, scalar_lambda, proxies in itertools.product((False, True), repeat=3):
        whole = make_problem(pairs, rho, "ragged", False, renormalize, scalar_lambda, proxies)
        if scalar_lambda and not renormalize:
            continue  # nothing to have a window of
        results = {}
        for name, problem in (
            ("window", whole.window(*window)),
            ("reference", whole.window(*window)),
            ("whole", whole),
        ):
            arguments = problem.arguments(grad=True)
            with mx.use_backend("reference" if name == "reference" else "cpu"):
                sums, nonzero = pair_sums(**arguments)
            sums.masked_fill(sums == -math.inf, 0).sum().backward()
            gradients = {k: t.grad for k, t in arguments.items() if isinstance(t, Tensor) and t.requires_grad}
            results[name] = sums.detach(), gradients
            if rho == "linear":
                results[name] += (nonzero,)
        torch.testing.assert_close(results["window"], results["reference"], rtol=1e-11, atol=1e-11)
        begin, end = whole.relations.positives.unbind(1)
        kept = ((window[0] <= begin) & (end <= window[1])) | (begin == end)
        assert torch.equal(results["window"][0], results["whole"][0][kept])
        assert torch.equal(results["window"][1]["similarity"], results["whole"][1]["similarity"][kept])


@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
def test_opcheck_of_a_window(pairs: str) -> None:
    arguments = make_problem(pairs).window(5, 9).arguments(grad=True)
    relations, rho = arguments["relations"], arguments["rho"]
    tensors = arguments["similarity"], relations.positives, relations.self_index, None, False
    optional = *(arguments[name] for name in ("lam", "gram", "sqnorm")), None, None
    torch.library.opcheck(torch.ops.metrix_ext.pair_sums, (*tensors, pairs, *flat(rho), *optional, 5, True))


def test_bad_windows_are_named(backend: str) -> None:
    arguments = make_problem("pos-neg").window(5, 9).arguments()
    masked = make_problem("pos-neg", masked=True).window(5, 9).arguments()
    n = arguments["similarity"].shape[1]
    for given, change, name in (
        (arguments, {"first_row": -1}, "first_row: got -1, expected 0 to 15"),
        (arguments, {"first_row": 16}, "first_row: got 16, expected 0 to 15"),
        (arguments, {"first_row": 4}, r"relations.positives: got \[6, 9\], expected columns from 4 to 8"),
        (arguments, {"sqnorm": None}, "sqnorm: missing"),
        (arguments, {"lam": torch.rand(n, n)}, "lam"),
        (arguments, {"gram": torch.rand(n, n)}, "lam"),
        (arguments, {"pairs": "neg-neg"}, "first_row"),
        (masked, {}, "a mask"),
        (make_problem("anc-neg").arguments(), {"first_row": 2}, "first_row"),
        (make_problem("clean").arguments(), {"first_row": 2}, "first_row"),
        (make_problem("pos-neg", renormalize=False, scalar_lambda=True).arguments(), {"first_row": 2}, "first_row"),
    ):
        with pytest.raises(ValueError, match=name):
            pair_sums(**{**given, **change})


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
