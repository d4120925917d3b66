"""The CUDA kernels on a device: the grid of the other backends, and what only a device can show."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext import backend, native, reference
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.ops.unit_rows import unit_rows
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from metrix_ext.terms.relations import Relations
from tests.support.mixes_problems import CLASS_SIZES as MIXED_CLASS_SIZES
from tests.support.mixes_problems import feature_maps, random_mixes, relations
from tests.support.problems import (
    CASES,
    CLASS_SIZES,
    GIVEN,
    RHO,
    WINDOWS,
    check_class_order,
    check_diagonals,
    check_with_clean,
    make_problem,
    on,
)

ALL_SETS = ("clean", *PAIR_SETS)

pytestmark = pytest.mark.skipif(backend.why_not("cuda") is not None, reason=str(backend.why_not("cuda")))


@pytest.fixture(autouse=True)
def cuda_backend():
    with mx.use_backend("cuda"):
        yield


def evaluate(arguments: dict[str, object], function=pair_sums) -> dict[str, Tensor]:
    """Sums, counts, and the gradients under an upstream gradient that differs from anchor to anchor."""
    sums, nonzero = function(**arguments)
    weights = torch.linspace(0.5, 2.0, sums.numel(), dtype=sums.dtype, device=sums.device).reshape(sums.shape)
    finite = torch.where(sums.detach().isfinite(), sums, torch.zeros_like(sums))
    (finite * weights).sum().backward()
    results = {"sums": sums.detach()}
    if not arguments["rho"][0].exponential:
        results["nonzero"] = nonzero
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.requires_grad:
            results[f"gradient of {name}"] = torch.zeros_like(value) if value.grad is None else value.grad
    return results


def error(actual: Tensor, expected: Tensor) -> float:
    actual, expected = actual.double().cpu(), expected.double().cpu()
    if actual.isnan().any() or not torch.equal(actual.isinf(), expected.isinf()):
        return float("inf")
    finite = expected.isfinite()
    return float((actual - expected)[finite].norm() / (1e-12 + expected[finite].norm()))


def check(problem, device: str = "cuda", dtypes=(torch.float64, torch.float32)) -> None:
    truth = evaluate(problem.arguments(grad=True), reference.pair_sums)
    for dtype in dtypes:
        plain = evaluate(problem.arguments(dtype, grad=True), reference.pair_sums)
        results = evaluate(on(device, problem.arguments(dtype, grad=True)))
        again = evaluate(on(device, problem.arguments(dtype, grad=True)))
        for name, expected in truth.items():
            allowed = 1e-11 if dtype == torch.float64 else 2e-5 + error(plain[name], expected)
            assert error(results[name], expected) <= allowed, f"{name}, {dtype}"
            assert torch.equal(results[name], again[name]), f"{name}, {dtype}: other bits the second time"
        if len(problem.floats["similarity"]) == problem.floats["similarity"].shape[1]:
            known = evaluate(on(device, problem.in_order().arguments(dtype, grad=True)))
            for name in truth:
                assert torch.equal(results[name], known[name]), f"{name}, {dtype}: other bits where the order is known"


@pytest.mark.parametrize(("pairs", "rho", "layout", "masked"), CASES)
def test_values_and_gradients(pairs: str, rho: str, layout: str, masked: bool) -> None:
    for renormalize in (False,) if pairs == "clean" else (False, True):
        for scalar_lambda, proxies in ((False, False), (True, False), (False, True)):
            check(make_problem(pairs, rho, layout, masked, renormalize, scalar_lambda, proxies, seed=3))


@pytest.mark.parametrize("pairs", ALL_SETS)
@pytest.mark.parametrize("masked", [False, True])
def test_several_blocks_and_strips(pairs: str, masked: bool) -> None:
    CLASS_SIZES["blocks"] = (150, *[1, 2, 7, 40] * 7)
    check(make_problem(pairs, "exp", "blocks", masked, pairs != "clean", dim=16), dtypes=[torch.float32])


@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_windows(pairs: str, rho: str) -> None:
    for window, renormalize in itertools.product(WINDOWS, (False, True)):
        check(make_problem(pairs, rho, "ragged", False, renormalize).window(*window))


@pytest.mark.parametrize(("pairs", "given"), GIVEN)
def test_diagonals(pairs: str, given: tuple[str, ...]) -> None:
    for rho in ("nca", "linear"):
        check_diagonals(pairs, rho, given, device="cuda")


@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_with_clean(pairs: str) -> None:
    for rho, masked, proxies in itertools.product(("exp", "linear"), (False, True), (False, True)):
        check_with_clean(make_problem(pairs, rho, "wide", masked, proxies=proxies), device="cuda")


@pytest.mark.parametrize("pairs", ALL_SETS)
def test_gradcheck(pairs: str) -> None:
    arguments = on("cuda", make_problem(pairs, "nca").arguments(grad=True))
    names = [n for n, t in arguments.items() if isinstance(t, Tensor) and t.requires_grad]

    def sums(*tensors: Tensor) -> Tensor:
        out = pair_sums(**{**arguments, **dict(zip(names, tensors, strict=True))})[0]
        return torch.where(out.isfinite(), out, torch.zeros_like(out))

    assert torch.autograd.gradcheck(sums, [arguments[n] for n in names])


def test_lambda_has_the_bits_of_the_cpu() -> None:
    ids = torch.cat((torch.randperm(300), torch.tensor([2**31, 2**40])))
    for dtype in (torch.float32, torch.float64):
        on_device = pair_lambda(9, ids.cuda(), ids.cuda(), 2.0, dtype).cpu()
        with mx.use_backend("cpu"):
            on_cpu = pair_lambda(9, ids, ids, 2.0, dtype)
        assert (on_device - on_cpu).abs().max() <= torch.finfo(dtype).eps


def step(arguments: dict[str, object]) -> Tensor:
    """A graph can hold this: no synchronisation, gradients into tensors that stay."""
    sums, _ = pair_sums(**arguments)
    torch.logaddexp(sums, torch.zeros_like(sums)).sum().backward()
    return sums


@pytest.mark.parametrize("pairs", ALL_SETS)
def test_runs_on_the_current_stream(pairs: str) -> None:
    problem = make_problem(pairs, "exp", "wide", renormalize=pairs != "clean")
    expected = step(on("cuda", problem.arguments(torch.float32, grad=True))).detach()
    arguments = on("cuda", problem.arguments(torch.float32, grad=True))
    right = arguments["similarity"].detach().clone()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        arguments["similarity"].detach().fill_(float("nan"))
        torch.cuda._sleep(50_000_000)  # what runs on another stream sees the NaN
        arguments["similarity"].detach().copy_(right)
        sums = step(arguments).detach()
    stream.synchronize()
    assert torch.equal(sums, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pairs", ALL_SETS)
def test_cuda_graph(pairs: str, masked: bool) -> None:
    options = {"layout": "wide", "masked": masked, "renormalize": pairs != "clean"}
    arguments = on("cuda", make_problem(pairs, "exp", seed=1, **options).arguments(torch.float32, grad=True))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(arguments)
    torch.cuda.current_stream().wait_stream(side)
    arguments["similarity"].grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sums = step(arguments)
    # Other numbers and other classes in the same memory.
    other = on("cuda", make_problem(pairs, "exp", seed=2, **options).arguments(torch.float32, grad=True))
    expected = step(other)
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            value.detach().copy_(other[name].detach())
    if masked:
        arguments["relations"].mask.copy_(other["relations"].mask)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(sums, expected)
    assert torch.equal(arguments["similarity"].grad, other["similarity"].grad)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one device only")
@pytest.mark.parametrize("pairs", ALL_SETS)
def test_another_device_than_the_current_one(pairs: str) -> None:
    with torch.cuda.device(0):
        check(make_problem(pairs), device="cuda:1")
        assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("pairs", ["clean", "pos-neg", "anc-neg", "pos-pos"])
def test_large_batch_agrees_with_double_precision_and_keeps_its_memory(pairs: str) -> None:
    CLASS_SIZES["batch of 2048"] = (32,) * 64
    problem = make_problem(pairs, "exp", "batch of 2048", renormalize=pairs != "clean", dim=64)
    double = evaluate(on("cuda", problem.arguments(grad=True)))
    single = evaluate(on("cuda", problem.arguments(torch.float32, grad=True)))
    for name, expected in double.items():
        assert error(single[name], expected) < 1e-4, name
    arguments = on("cuda", problem.arguments(torch.float32, grad=True))
    used = []
    for _ in range(4):
        step(arguments)
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert used[1] == used[-1]


# ---- class_order, unit_rows, mean_loss ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 100, 5000])
def test_class_order(n: int) -> None:
    for low, high in ((-3, 30), (-(2**62), 2**62), (7, 8)):
        check_class_order(torch.randint(low, high, (n,), device="cuda"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (130, 65), (100, 512)])
def test_unit_rows_are_those_of_the_cpu(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, weights, order = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype), torch.randperm(shape[0])
    x[::3] *= 1e-14  # below the smallest norm
    results = []
    for device in ("cuda", "cpu"):
        leaf = x.to(device).requires_grad_()
        with mx.use_backend(device):
            unit = unit_rows(leaf, order.to(device))
            (unit * weights.to(device)).sum().backward()
        results.append((unit.detach().cpu(), leaf.grad.cpu()))
    for actual, expected in zip(*results, strict=True):
        assert error(actual, expected) < (1e-13 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("loss", ["ContrastiveLoss", "LiftedStructureLoss", "NCALoss", "MultiSimilarityLoss"])
def test_mean_loss_is_that_of_the_cpu(loss: str, dtype: torch.dtype) -> None:
    formula = getattr(mx.losses, loss)().formula
    for anchors in (0, 1, 3000):
        clean, mixed = (9 * torch.randn(anchors, 2, dtype=dtype) for _ in range(2))
        if formula.exponential and anchors:
            clean[0, 1] = mixed[-1, 0] = -float("inf")
        results = []
        for device in ("cuda", "cpu"):
            leaves = [t.to(device).requires_grad_() for t in (clean, mixed)]
            with mx.use_backend(device):
                value = mean_loss(leaves[0], formula, leaves[1], 0.4)
                value.backward()
            results.append([value.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)])
        for actual, expected in zip(*results, strict=True):
            assert error(actual, expected) < (1e-12 if dtype == torch.float64 else 1e-5)


# ---- mix_pool and anchor_sums ---------------------------------------------------------------------------------

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Of a pooled mix: half types round the ratio of the weights, the mix, and the result.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def moved(mixes: Mixes, device: str, dtype: torch.dtype) -> Mixes:
    first, second, lam, begin, uses = (tensor.to(device) for tensor in mixes.tensors)
    return Mixes(first, second, lam.to(torch.float64 if dtype == torch.float64 else torch.float32), begin, uses)


def pool_step(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor) -> tuple[Tensor, ...]:
    """Pooled mixes and the gradients of features and averages; a graph can hold this."""
    features, averages = features.detach().requires_grad_(), averages.detach().requires_grad_()
    pooled = mix_pool(features, order, mixes, averages)
    weights = torch.linspace(-1, 1, pooled.numel(), dtype=pooled.dtype, device=pooled.device).reshape(pooled.shape)
    return pooled.detach(), *torch.autograd.grad(pooled, (features, averages), weights)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "strided"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["tiles", "shuffled"])
@pytest.mark.parametrize(
    "shape", [(9, 5, 3, 3), (25, 70, 2, 3), (40, 256, 7, 7), (6, 3, 13, 11), (2, 1, 1, 1)], ids=str
)
def test_pool(dtype: torch.dtype, layout: str, shuffle: bool, shape: tuple[int, int, int, int]) -> None:
    n = shape[0]
    features = feature_maps(*shape, layout).to(dtype).cuda()
    order = torch.randperm(n, device="cuda")
    mixes = moved(random_mixes(n, False, torch.float64, shuffle=shuffle), "cuda", dtype)
    averages = features.double().mean((2, 3)).to(mixes.lam.dtype)
    results = pool_step(features, order, mixes, averages)
    for one, again in zip(results, pool_step(features, order, mixes, averages), strict=True):
        assert torch.equal(one, again), "other bits the second time"
    exact = moved(mixes, "cuda", torch.float64)
    with mx.use_backend("reference"):
        truth = pool_step(features.double(), order, exact, averages.double())
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(results[0].double(), truth[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(results[2].double(), truth[2], rtol=tolerance, atol=tolerance)
    if dtype.itemsize >= 4:  # half types may pick another of two maxima that rounding makes equal
        torch.testing.assert_close(results[1].double(), truth[1], rtol=tolerance, atol=tolerance)
    else:
        total = truth[1].sum((2, 3))
        torch.testing.assert_close(results[1].double().sum((2, 3)), total, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("aligned", [True, False], ids=["tiles", "averages not aligned"])
def test_pool_of_many_mixes(dtype: torch.dtype, aligned: bool) -> None:
    """Tiles in shared memory, whose mixes are those that a warp pools alone when it looks for the maxima, too."""
    n, channels = 264, 2048
    features = feature_maps(n, channels, 3, 3, "channels_last").to(dtype).cuda()
    order = torch.randperm(n, device="cuda")
    mixes = moved(random_mixes(n, False, torch.float64), "cuda", dtype)
    averages = features.float().mean((2, 3))
    if not aligned:
        averages = torch.cat((averages.new_zeros(1), averages.flatten()))[1:].view(n, channels)
    alone = mix_pool(features, order, mixes, averages)
    with_maxima = mix_pool(features.detach().requires_grad_(), order, mixes, averages)
    torch.testing.assert_close(alone.float(), with_maxima.float(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def sums_step(mixed: Tensor, anchors: Tensor, *rest: object) -> tuple[Tensor, ...]:
    """Sums and the gradients of mixes and anchors; a graph can hold this."""
    mixed, anchors = mixed.detach().requires_grad_(), anchors.detach().requires_grad_()
    sums, _ = anchor_sums(mixed, anchors, *rest)
    weights = torch.linspace(0.5, 2.0, sums.numel(), dtype=sums.dtype, device=sums.device).reshape(sums.shape)
    finite = torch.where(sums.detach().isfinite(), sums, torch.zeros_like(sums))
    return sums.detach(), *torch.autograd.grad((finite * weights).sum(), (mixed, anchors))


def sums_problem(
    dtype: torch.dtype, pairs: str, rho: str, layout: str, who: str, both_orders: bool, normalize: bool, size: int
) -> tuple[object, ...]:
    related, m, n = relations(MIXED_CLASS_SIZES[layout], who)
    mask = None if related.mask is None else related.mask.cuda()
    related = Relations(related.positives.cuda(), related.self_index.cuda(), mask)
    mixes = moved(random_mixes(n, not both_orders, torch.float64), "cuda", dtype)
    generator = torch.Generator().manual_seed(size)
    mixed, anchors = (torch.randn(k, size, generator=generator, dtype=torch.float64) for k in (len(mixes), m))
    mixed = mixed if normalize else torch.nn.functional.normalize(mixed)
    anchors = torch.nn.functional.normalize(anchors).to(mixes.lam.dtype).cuda()
    return mixed.to(dtype).cuda(), anchors, related, RHO[rho], pairs, mixes, both_orders, normalize


def check_anchor_sums(dtype: torch.dtype, *options: object) -> None:
    mixed, anchors, related, rho, pairs, mixes, *rest = sums_problem(dtype, *options)
    results = sums_step(mixed, anchors, related, rho, pairs, mixes, *rest)
    for one, again in zip(results, sums_step(mixed, anchors, related, rho, pairs, mixes, *rest), strict=True):
        assert torch.equal(one, again), "other bits the second time"
    exact = related, rho, pairs, moved(mixes, "cuda", torch.float64), *rest
    with mx.use_backend("reference"):
        truth = sums_step(mixed.double(), anchors.double(), *exact)
        plain = sums_step(mixed, anchors, related, rho, pairs, mixes, *rest)
    for k, (actual, expected) in enumerate(zip(results, truth, strict=True)):
        allowed = 1e-11 if dtype == torch.float64 else 4e-5 + error(plain[k], expected)
        # The gradient of mixed is rounded to the type of mixed.
        if dtype.itemsize == 2 and k == 1:
            allowed = 4e-3
        assert error(actual, expected) <= allowed, (k, dtype)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", list(RHO))
@pytest.mark.parametrize("who", ["examples", "proxies", "shuffled", "mask"])
@pytest.mark.parametrize("both_orders", [True, False], ids=["both orders", "ordered"])
def test_anchor_sums(pairs: str, rho: str, who: str, both_orders: bool) -> None:
    for layout in MIXED_CLASS_SIZES:
        for dtype in (torch.float64, torch.float32):
            for normalize in (False, True):
                check_anchor_sums(dtype, pairs, rho, layout, who, both_orders, normalize, 12)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [7, 512, 1028])
def test_anchor_sums_of_several_blocks(pairs: str, dtype: torch.dtype, size: int) -> None:
    MIXED_CLASS_SIZES["blocks"] = (5,) * 16 + (1, 2, 30)
    for who in ("examples", "mask"):
        check_anchor_sums(dtype, pairs, "exp", "blocks", who, True, True, size)


def feature_step(features: Tensor, order: Tensor, averages: Tensor, rest: tuple[object, ...]) -> tuple[Tensor, ...]:
    """Both ops, forward and backward."""
    _mixed, anchors, related, rho, pairs, mixes, *flags = rest
    pooled, *gradients = pool_step(features, order, mixes, averages)
    return pooled, *gradients, *sums_step(pooled, anchors, related, rho, pairs, mixes, *flags)


def feature_problem(seed: int) -> tuple[object, ...]:
    rest = sums_problem(torch.bfloat16, "pos-neg", "exp", "tiles", "examples", True, True, 64)
    features = feature_maps(30, 64, 7, 7, "channels_last", seed).to(torch.bfloat16).cuda()
    features = features.contiguous(memory_format=torch.channels_last)
    return features, torch.arange(30, device="cuda"), features.float().mean((2, 3)), rest


def test_mixes_in_a_cuda_graph() -> None:
    features, order, averages, rest = feature_problem(0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        feature_step(features, order, averages, rest)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = feature_step(features, order, averages, rest)
    others = feature_problem(1)
    expected = feature_step(*others)
    features.copy_(others[0])
    averages.copy_(others[2])
    graph.replay()
    torch.cuda.synchronize()
    for one, other in zip(captured, expected, strict=True):
        assert torch.equal(one, other)


def test_mixes_on_the_current_stream() -> None:
    features, order, averages, rest = feature_problem(0)
    expected = feature_step(features, order, averages, rest)
    right = features.clone()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        features.fill_(float("nan"))
        torch.cuda._sleep(50_000_000)  # what runs on another stream sees the NaN
        features.copy_(right)
        results = feature_step(features, order, averages, rest)
    stream.synchronize()
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_launched_is_an_exception() -> None:
    lib = native.lib()
    index = torch.zeros((1, 2), dtype=torch.int64, device="cuda")
    nothing = dict.fromkeys(("lam", "gram", "sqnorm", "self_similarity", "self_sqnorm", "mask"))
    args = lib.PairSumsArgs_f32(
        anchors=1,
        examples=1,
        first_row=0,
        rows=1,
        pairs="clean",
        exponential=True,
        rho=[1.0, 0.0, 0.0] * 2,
        renormalize=False,
        lam_is_scalar=False,
        anchors_in_order=False,
        similarity=torch.zeros(1, 1, device="cuda"),
        positives=index,
        self_index=index,
        **nothing,
    )
    nowhere = lib.Where(device=torch.cuda.device_count(), stream=0)
    with pytest.raises(RuntimeError, match="metrix_ext, CUDA, cudaSetDevice"):
        lib.pair_sums_f32(nowhere, args, sums=None, rest=None, clean=None, clean_rest=None)
    torch.zeros(1, device="cuda").add_(1)  # the device still works


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="there is no compute-sanitizer on PATH")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer(tool: str) -> None:
    tests = Path(__file__)
    command = ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", sys.executable, "-m", "pytest", "-q"]
    selection = f"{tests}::test_values_and_gradients[pos-neg-exp-ragged-False]"
    others = [selection.replace("pos-neg", name) for name in ("clean", "anc-neg", "neg-neg")]
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run(
        [*command, selection, *others, selection.replace("False", "True")],
        env=environment,
        cwd=tests.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
