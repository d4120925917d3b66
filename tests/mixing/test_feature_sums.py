"""Feature mixup as one op over chunks: what test_features.py, which compares it with the loop oracle, leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import metrix_ext as mx
from metrix_ext.ops import feature_chunks
from metrix_ext.ops.feature_chunks import FeatureSumsArguments
from metrix_ext.terms.pair_sets import PAIR_SETS
from metrix_ext.terms.relations import Relations

CHANNELS, SIZE, CLASSES, PER_CLASS = 40, 24, 5, 4
N = CLASSES * PER_CLASS

Gradients = list[Tensor]


def problem(dtype: torch.dtype, pool: str = "avg+max", layout: str = "contiguous") -> tuple[Tensor, ...]:
    """Features after a ReLU, labels in no order, lambda; the same numbers in every type."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N, CHANNELS, 3, 5, generator=generator, dtype=torch.float64).relu()
    labels = (torch.arange(N) % CLASSES)[torch.randperm(N, generator=generator)]
    lam = torch.rand(N, N, generator=generator, dtype=torch.float64)
    lam = lam.triu(1) + (1 - lam).triu(1).T + 0.5 * torch.eye(N, dtype=torch.float64)
    if layout == "channels_last":
        features = features.to(memory_format=torch.channels_last)
    return features.to(dtype), labels, lam.to(dtype if dtype == torch.float64 else torch.float32)


def head_of(dtype: torch.dtype, pool: str = "avg+max") -> mx.heads.PoolingHead:
    torch.manual_seed(1)
    head = mx.heads.PoolingHead(CHANNELS, SIZE, pool)
    nn.init.normal_(head.linear.bias, std=0.1)
    return head.double().to(dtype)


def step(
    dtype: torch.dtype,
    pool: str = "avg+max",
    pairs: str = "pos-neg",
    layout: str = "contiguous",
    lam: str = "given",
    **arguments: object,
) -> Gradients:
    """The mixed loss under one seed, and the gradients of features, weight, bias and anchors."""
    features, labels, weights = problem(dtype, pool, layout)
    head = head_of(dtype, pool)
    features.requires_grad_()
    embeddings = head(features.detach()).detach().requires_grad_()
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs=pairs, **arguments)
    loss = criterion.mixed_loss(embeddings, labels, pairs, weights if lam == "given" else None, features, head, seed=3)
    loss.backward()
    gradients = features.grad, head.linear.weight.grad, head.linear.bias.grad, embeddings.grad
    assert all(g is not None for g in gradients)
    return [loss.detach(), *(g for g in gradients if g is not None)]


def distance(got: Gradients, want: Gradients) -> float:
    """The largest relative l2 error."""
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("pool", ["max", "avg+max"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_single_precision(pairs: str, pool: str, layout: str) -> None:
    got = step(torch.float32, pool, pairs, layout)
    with mx.use_backend("reference"):
        exact, naive = (step(dtype, pool, pairs) for dtype in (torch.float64, torch.float32))
    assert distance(got, exact) < max(3 * distance(naive, exact), 2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    got = step(dtype, lam="pair")
    assert got[1].dtype == got[2].dtype == dtype and got[4].dtype == torch.float32
    with mx.use_backend("reference"):
        exact, naive = (step(d, lam="pair") for d in (torch.float64, dtype))
    assert distance(got, exact) < 2 * distance(naive, exact)


@pytest.mark.parametrize("lam", ["pair", "batch"])
@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize(
    ("chunk", "projected", "mixed"), [(96, 10_000, 0), (96, 192, 96), (96, 10_000, 10_000), (10_000, 10_000, 10_000)]
)
@pytest.mark.usefixtures("two_threads")
def test_kept_and_recomputed(
    monkeypatch: pytest.MonkeyPatch, pairs: str, lam: str, chunk: int, projected: int, mixed: int
) -> None:
    """What fits into the workspace is kept, and gives the same bits as what is formed again."""

    def recompute_but(*rows: int) -> list[Tensor]:
        sizes = feature_chunks.Sizes(chunk, *rows)
        monkeypatch.setattr(feature_chunks.FeatureSumsArguments, "_sizes", lambda self: sizes)
        return step(torch.float32, pairs=pairs, lam=lam)

    for a, b in zip(recompute_but(projected, mixed), recompute_but(0, 0), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("parts", [1, 3, 7, 20])
def test_what_is_kept_fits_into_the_workspace(parts: int) -> None:
    """Of a part of what all mixes take: what is kept and the chunk at work; projections are kept first."""
    n, channels, size = 300, 512, 64
    mixes, row = n * (n - 1) // 2, channels * (2 * 4 + 2) + size * 2 * 4
    workspace = mixes * row // parts
    none, labels = torch.empty(0), torch.arange(n) // 5
    related = Relations.from_labels(labels, labels, torch.arange(n))
    given = torch.empty(n, channels, 1, 1), torch.empty(size, channels), None, torch.empty(n, size), torch.arange(n)
    options = "pos-neg", True, True, True, [0.0] * 6, workspace, [True] * 3
    made = FeatureSumsArguments(*given, related.positives, related.self_index, None, none, *options)
    sizes = made._sizes()
    kept = sum(tensor.numel() * tensor.itemsize for tensor in made.kept())
    assert sizes.mixed <= sizes.projected <= mixes
    if parts == 1:
        assert sizes == (mixes, mixes, mixes)
        return
    assert kept + sizes.chunk * row <= workspace
    assert sizes.mixed == 0 or sizes.projected == mixes
    assert (sizes.mixed > 0) == (parts < 20)


def record_kept(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """A list that fills with how many mixes are kept: projected, pooled, with their maxima."""
    rows: list[list[int]] = []
    original = feature_chunks.FeatureSumsArguments.kept

    def kept(self: feature_chunks.FeatureSumsArguments) -> feature_chunks.Kept:
        result = original(self)
        rows.append([len(tensor) for tensor in result])
        return result

    monkeypatch.setattr(feature_chunks.FeatureSumsArguments, "kept", kept)
    return rows


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3, (True,) * 3]
)
@pytest.mark.parametrize("workspace", [1, 2**27])
def test_only_what_is_wanted_is_kept(
    monkeypatch: pytest.MonkeyPatch, wanted: tuple[bool, bool, bool], workspace: int
) -> None:
    rows = record_kept(monkeypatch)
    features, labels, lam = problem(torch.float32)
    head = head_of(torch.float32)
    embeddings = head(features).detach()
    leaves = features, head.linear.weight, head.linear.bias
    for leaf, is_wanted in zip(leaves, wanted, strict=True):
        leaf.requires_grad_(is_wanted)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg", workspace=workspace)
    loss = criterion.mixed_loss(embeddings, labels, "pos-neg", lam, features, head)
    all_pairs = N * (N - 1) if workspace > 1 else 0
    assert rows == [[all_pairs * any(wanted), all_pairs * wanted[1], all_pairs * wanted[0]]]
    if any(wanted):
        loss.backward(retain_graph=True)
        expected = [g for g, is_wanted in zip(step(torch.float32)[1:4], wanted, strict=True) if is_wanted]
        got = [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]
        assert distance(got, expected) < 1e-5
        loss.backward()  # what was kept is as it was
        assert distance([leaf.grad for leaf in leaves if leaf.grad is not None], [2 * g for g in got]) < 1e-6


def test_nothing_is_kept_where_no_gradient_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = record_kept(monkeypatch)
    features, labels, lam = problem(torch.float32)
    head = head_of(torch.float32)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg")
    with torch.no_grad():
        criterion.mixed_loss(head(features), labels, "pos-neg", lam, features, head)
    assert rows == [[0, 0, 0]]


def test_layout_of_the_gradient() -> None:
    gradient = step(torch.float32, layout="channels_last")[1]
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert distance([gradient], [step(torch.float32)[1]]) < 1e-5


def test_positions_that_are_not_evenly_spaced() -> None:
    features, labels, lam = problem(torch.float32)
    padded = torch.cat((features, features), 3)[..., :5].detach().requires_grad_()
    assert not padded.is_contiguous() and torch.equal(padded, features)
    head = head_of(torch.float32)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature")
    embeddings = head(features).detach().requires_grad_()
    criterion.mixed_loss(embeddings, labels, "pos-neg", lam, padded, head).backward()
    assert padded.grad is not None
    assert distance([padded.grad], [step(torch.float32)[1]]) < 1e-5


def test_autocast() -> None:
    """The projection runs in the half type, the similarities do not."""
    features, labels, lam = problem(torch.float32)
    head = head_of(torch.float32)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg")
    features.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = head(features)
        assert head.linear(features.mean((2, 3))).dtype == torch.bfloat16
        loss = criterion.mixed_loss(embeddings, labels, "pos-neg", lam, features, head)
    loss.backward()
    assert features.grad is not None and features.grad.dtype == torch.float32
    with torch.no_grad():
        exact = criterion.mixed_loss(head(features), labels, "pos-neg", lam, features, head)
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert loss.item() != exact.item()


@pytest.mark.parametrize("frozen", ["features", "weight", "embeddings"])
def test_frozen(frozen: str) -> None:
    """What needs no gradient gets none, and the others keep theirs."""
    features, labels, lam = problem(torch.float32)
    head = head_of(torch.float32)
    leaves = {
        "features": features.requires_grad_(),
        "weight": head.linear.weight,
        "bias": head.linear.bias,
        "embeddings": head(features.detach()).detach().requires_grad_(),
    }
    leaves[frozen].requires_grad_(False)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg")
    criterion.mixed_loss(leaves["embeddings"], labels, "pos-neg", lam, features, head).backward()
    for (name, tensor), want in zip(leaves.items(), step(torch.float32)[1:], strict=True):
        if name == frozen:
            assert tensor.grad is None
        else:
            assert tensor.grad is not None and torch.equal(tensor.grad, want), name


def test_without_bias() -> None:
    features, labels, lam = problem(torch.float64)
    results = []
    for bias in (None, torch.zeros(SIZE, dtype=torch.float64)):
        head = head_of(torch.float64)
        head.linear.bias = None if bias is None else nn.Parameter(bias)
        criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg")
        leaf = features.clone().requires_grad_()
        loss = criterion.mixed_loss(head(leaf), labels, "pos-neg", lam, leaf, head)
        results.append([loss.detach(), *torch.autograd.grad(loss, [leaf, head.linear.weight])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_compiles_as_one_graph() -> None:
    torch.compiler.reset()
    features, labels, _ = problem(torch.float32)
    head = head_of(torch.float32)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg")

    def loss(x: Tensor) -> Tensor:
        return criterion(head(x), labels, source=x, encode=head, seed=3)

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = features.clone().requires_grad_()
        value = function(leaf)
        results.append([value.detach(), *torch.autograd.grad(value, [leaf, head.linear.weight, head.linear.bias])])
    assert distance(results[1], results[0]) < 1e-6


def test_registration() -> None:
    features, labels, lam = problem(torch.float64)
    head = head_of(torch.float64)
    batch = mx.losses.MultiSimilarityLoss().batch(head(features).detach(), labels, None)
    relations = batch.relations
    arguments = (
        features.requires_grad_(),
        head.linear.weight,
        head.linear.bias,
        batch.anchors.requires_grad_(),
        batch.order,
        relations.positives,
        relations.self_index,
        None,
        lam,
        "pos-neg",
        True,
        True,
        True,
        [-2.0, 0.5, 0.0, 0.0, 3.0, -0.5, 0.0, 0.0],
        2**20,
        [True, True, True],
    )
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.metrix_ext.feature_sums.default, arguments, test_utils=tests)


def test_under_data_parallel(tmp_path: os.PathLike[str]) -> None:
    """The head's parameters are used by its forward and by the op; their gradients add up before they are reduced."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        features, labels, _ = problem(torch.float32)
        criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg")
        results = []
        for wrap in (lambda head: head, DistributedDataParallel):
            head = head_of(torch.float32)
            criterion(wrap(head)(features), labels, source=features, encode=head, seed=3).backward()
            results.append([head.linear.weight.grad, head.linear.bias.grad])
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)
    finally:
        torch.distributed.destroy_process_group()


def test_memory_does_not_grow_with_the_pairs() -> None:
    """Materialised, the mixed maps would take 4,950 x 256 x 49 x 4 bytes = 248 MB forward alone."""
    program = """
        import resource, torch, metrix_ext as mx
        torch.manual_seed(0)
        head = mx.heads.PoolingHead(256, 128)
        criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="feature", pairs="pos-neg", workspace=2**23)

        def peak_of_step(n):
            features = torch.randn(n, 256, 7, 7, requires_grad=True)
            criterion(head(features), torch.arange(n) // 5, source=features, encode=head).backward()
            return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = peak_of_step(10)
        print(peak_of_step(100) - before)
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 2**20
