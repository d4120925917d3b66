"""mix_pool and anchor_sums on the emulated device, as test_cuda_emulation.py does pair_sums."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metrix_ext import reference
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.ops.mix_pool import launch_backward, launch_forward, mix_pool
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.emulation.device import emulated
from tests.emulation.device.emulated import tiny_blocks
from tests.support.mixes_problems import CLASS_SIZES, feature_maps, random_mixes, relations
from tests.support.problems import RHO

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
HALF_TYPES = (torch.bfloat16, torch.float16)
LAYOUTS = ["channels_last", "contiguous", "strided"]


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def cast(mixes: Mixes, dtype: torch.dtype) -> Mixes:
    return replace(mixes, lam=mixes.lam.to(torch.float64 if dtype == torch.float64 else torch.float32))


# ---- mix_pool -------------------------------------------------------------------------------------------------


def pool(
    features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None, with_argmax: bool = True
) -> tuple[Tensor, Tensor]:
    """The launch itself: the op on CPU tensors takes half types to float."""
    pooled = features.new_empty((len(mixes), features.shape[1]))
    argmax = torch.full(pooled.shape, -1, dtype=torch.int16)
    launch_forward(features, order, mixes, averages, pooled, argmax if with_argmax else None)
    return pooled, argmax


def mixed_maps(features: Tensor, order: Tensor, mixes: Mixes) -> Tensor:
    """[p, c, h w] in double precision."""
    rows, lam = features.double().flatten(2)[order], mixes.lam.double()[:, None, None]
    return lam * rows[mixes.first] + (1 - lam) * rows[mixes.second]


def check_pool(
    device: emulated.Device,
    dtype: torch.dtype,
    layout: str,
    channels: int = 5,
    size: tuple[int, int] = (3, 3),
    with_averages: bool = True,
    shuffle: bool = False,
    examples: int = 9,
) -> None:
    if layout == "sliced":  # pairs of channels that are not where one load can take both
        features = feature_maps(examples, channels + 1, *size, "channels_last").to(dtype)[:, 1:]
    else:
        features = feature_maps(examples, channels, *size, layout).to(dtype)
    features -= features.mean()  # negative maxima, and still ties
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(1))
    mixes = cast(random_mixes(examples, False, torch.float64, shuffle=shuffle), dtype)
    averages = features.double().mean((2, 3)).to(mixes.lam.dtype) if with_averages else None
    maps = mixed_maps(features, order, mixes)
    truth = reference.mix_pool(
        features.double(),
        order,
        replace(mixes, lam=mixes.lam.double()),
        None if averages is None else averages.double(),
    )
    generator = torch.Generator().manual_seed(2)
    grad_pooled = torch.randn(truth.shape, generator=generator, dtype=torch.float64).to(dtype)
    results = []
    for backwards in (False, True):
        device.run_backwards(backwards)
        pooled, argmax = pool(features, order, mixes, averages)
        grad_features = torch.ones_like(features, dtype=mixes.lam.dtype)
        grad_averages = None if averages is None else torch.ones_like(averages)
        launch_backward(grad_pooled, argmax, order, mixes, grad_features, grad_averages)
        alone, _ = pool(features, order, mixes, averages, with_argmax=False)
        results.append((pooled, argmax, grad_features, alone, *([] if grad_averages is None else [grad_averages])))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    pooled, argmax, grad_features, alone, *rest = results[0]

    # Half types round the ratio of the weights, the mix, and the result.
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    close(pooled, truth, tolerance)
    close(alone, truth, tolerance)
    assert ((argmax >= 0) & (argmax < maps.shape[2])).all()
    at_argmax = maps.gather(2, argmax.long()[..., None])[..., 0]
    close(at_argmax, maps.amax(2), tolerance)
    if dtype == torch.float64:
        first = (maps >= maps.amax(2, keepdim=True) - 1e-14).int().argmax(2)
        assert (argmax == first).float().mean() > 0.99

    # The gradient of the maximum that was picked, whether or not rounding picked another.
    leaf = features.double().requires_grad_()
    picked = mixed_maps(leaf, order, mixes).gather(2, argmax.long()[..., None])[..., 0]
    picked.backward(grad_pooled.double())
    assert leaf.grad is not None
    close(grad_features - 1, leaf.grad, 1e-12 if dtype == torch.float64 else 2e-5)
    if rest:
        lam = mixes.lam.double()[:, None] * grad_pooled.double()
        expected = torch.zeros(examples, channels, dtype=torch.float64)
        expected.index_add_(0, order[mixes.first], lam)
        expected.index_add_(0, order[mixes.second], grad_pooled.double() - lam)
        close(rest[0] - 1, expected, 1e-12 if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "sliced"])
def test_pool(device: emulated.Device, dtype: torch.dtype, layout: str) -> None:
    for channels, with_averages in ((8, True), (6, True), (5, False)):
        check_pool(device, dtype, layout, channels, with_averages=with_averages)


@tiny_blocks
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shuffle", [False, True], ids=["tiles", "shuffled"])
def test_pool_of_several_blocks(device: emulated.Device, dtype: torch.dtype, shuffle: bool) -> None:
    for channels in (70, 136):  # of the second some are no whole block of any lanes
        check_pool(device, dtype, "channels_last", channels, (2, 3), examples=25, shuffle=shuffle)


@pytest.mark.parametrize(
    ("device", "size"),
    [
        *((True, size) for size in [(1, 1), (3, 1), (2, 2), (7, 7)]),
        pytest.param(False, (1, 1), marks=pytest.mark.slow),  # a minute, since small launches go without tiles
    ],
    indirect=["device"],
)
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_tiles_are_staged_once(device: emulated.Device, dtype: torch.dtype, size: tuple[int, int]) -> None:
    """Whole tiles of half maps, whatever their number of positions: every row of a tile is copied once."""
    # A warp takes 8 x 8 examples, a block 2 x 2 or 4 x 4 warps.
    tile, examples, channels = (16, 40, 256) if device.has_tiny_blocks else (32, 70, 64 * 512)
    features = feature_maps(examples, channels, *size, "channels_last").to(dtype)
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(1))
    mixes = cast(random_mixes(examples, False, torch.float64), dtype)
    averages = torch.rand(examples, channels, generator=torch.Generator().manual_seed(2))
    before = device.copied_bytes()
    pooled, _ = pool(features, order, mixes, averages, with_argmax=False)
    whole = examples // tile
    rows = 2 * tile * (whole * (whole - 1) // 2)
    positions = max(4, 2 * math.ceil(size[0] * size[1] / 2))  # two stages of two at least
    assert device.copied_bytes() - before == rows * channels * positions * features.element_size()
    lam, of_example = mixes.lam[:, None], averages[order]
    mean = lam * of_example[mixes.first] + (1 - lam) * of_example[mixes.second]
    truth = mixed_maps(features, order, mixes).amax(2) + mean
    close(pooled, truth, {torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype])


@tiny_blocks
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("examples", "channels"), [(12, 8), (12, 5), (34, 128)])
def test_pool_at_the_end_of_the_range(
    device: emulated.Device, dtype: torch.dtype, examples: int, channels: int
) -> None:
    """The weight that is taken out may be the smaller one, and what is left of a mix then be infinite."""
    order, mixes = torch.arange(examples), cast(random_mixes(examples, False, torch.float64), dtype)
    largest = 0.45 * torch.finfo(torch.float32 if dtype == torch.float64 else dtype).max
    for sign in (-1, 1):
        features = (sign * largest * (0.5 + feature_maps(examples, channels, 2, 3, "channels_last").sigmoid() / 2)).to(
            dtype
        )
        pooled, argmax = pool(features, order, mixes, None)
        maps = mixed_maps(features, order, mixes)
        tolerance = {torch.bfloat16: 2e-2, torch.float16: 3e-3}.get(dtype, 1e-6)
        assert pooled.isfinite().all()
        alone, _ = pool(features, order, mixes, None, with_argmax=False)
        close(pooled.double() / largest, maps.amax(2) / largest, tolerance)
        close(alone.double() / largest, maps.amax(2) / largest, tolerance)
        close(maps.gather(2, argmax.long()[..., None])[..., 0] / largest, maps.amax(2) / largest, tolerance)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (7, 7), (9, 8)])
def test_pool_by_number_of_positions(device: emulated.Device, dtype: torch.dtype, size: tuple[int, int]) -> None:
    check_pool(device, dtype, "channels_last", 4, size, examples=6)


@tiny_blocks
def test_gradient_of_more_positions_than_shared_memory_holds(device: emulated.Device) -> None:
    check_pool(device, torch.float32, "channels_last", 3, (13, 11), examples=5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_op_and_its_gradient(device: emulated.Device, dtype: torch.dtype, layout: str) -> None:
    mixes = cast(random_mixes(7, False, torch.float64), dtype)
    order = torch.arange(6, -1, -1)
    results = []
    for function, kind in ((reference.mix_pool, torch.float64), (mix_pool, dtype)):
        features = feature_maps(7, 6, 3, 3, layout).to(kind).requires_grad_()
        averages = features.mean((2, 3))
        pooled = function(features, order, replace(mixes, lam=mixes.lam.to(kind)), averages)
        (pooled * torch.linspace(-1, 1, pooled.numel(), dtype=kind).reshape(pooled.shape)).sum().backward()
        results.append((pooled.detach(), features.grad))
    for expected, actual in zip(*results, strict=True):
        close(actual, expected, 1e-12 if dtype == torch.float64 else 1e-5)


@tiny_blocks
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["tiles", "shuffled"])
@pytest.mark.parametrize(("examples", "channels"), [(9, 4), (34, 128)])
def test_nan_in_a_map_comes_out(
    device: emulated.Device, dtype: torch.dtype, layout: str, shuffle: bool, examples: int, channels: int
) -> None:
    features = feature_maps(examples, channels, 3, 4, layout).to(dtype)
    features[2, 1, 1, 1] = features[2, 1, 2, 0] = features[5, 2, 2, 3] = math.nan
    order = torch.arange(examples)
    mixes = cast(random_mixes(examples, False, torch.float64, shuffle=shuffle), dtype)
    pooled, argmax = pool(features, order, mixes, None)
    alone, _ = pool(features, order, mixes, None, with_argmax=False)
    is_nan = mixed_maps(features, order, mixes).isnan()
    assert torch.equal(pooled.isnan(), is_nan.any(2))
    assert torch.equal(alone.isnan(), is_nan.any(2))
    assert torch.equal(argmax.long()[is_nan.any(2)], is_nan.int().argmax(2)[is_nan.any(2)])


def test_lambda_beyond_zero_and_one(device: emulated.Device) -> None:
    mixes = cast(random_mixes(6, False, torch.float64), torch.float32)
    mixes = replace(mixes, lam=3 * mixes.lam - 1)
    features = feature_maps(6, 3, 2, 2, "contiguous").float()
    close(pool(features, torch.arange(6), mixes, None)[0], mixed_maps(features, torch.arange(6), mixes).amax(2), 1e-6)


def test_empty_lists_and_lonely_examples(device: emulated.Device) -> None:
    for examples in (1, 2, 3):
        features = feature_maps(examples, 3, 2, 2, "contiguous").requires_grad_()
        mixes = random_mixes(examples, False, torch.float64)
        pooled = mix_pool(features, torch.arange(examples), mixes)
        assert pooled.shape == (examples * (examples - 1) // 2, 3)
        pooled.sum().backward()
        assert features.grad is not None
        assert features.grad.isfinite().all()


# ---- anchor_sums ----------------------------------------------------------------------------------------------


def evaluate(function, inputs: tuple[Tensor, Tensor], *arguments) -> dict[str, Tensor]:
    mixed, anchors = (tensor.clone().requires_grad_() for tensor in inputs)
    sums, nonzero = function(mixed, anchors, *arguments)
    weights = torch.linspace(0.5, 2.0, sums.numel(), dtype=sums.dtype).reshape(sums.shape)
    finite = torch.where(sums.detach().isfinite(), sums, torch.zeros_like(sums))
    (finite * weights).sum().backward()
    results = {"sums": sums.detach()}
    for name, tensor in (("mixed", mixed), ("anchors", anchors)):
        results[f"gradient of {name}"] = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
    if not arguments[1][0].exponential:
        results["nonzero"] = nonzero
    return results


def error(actual: Tensor, expected: Tensor) -> float:
    """Relative l2 error of what is finite; infinite if an infinity or a NaN is not where it should be."""
    actual = actual.double()
    if actual.isnan().any() or not torch.equal(actual.isinf(), expected.isinf()):
        return math.inf
    finite = expected.isfinite()
    return float((actual - expected)[finite].norm() / (1e-12 + expected[finite].norm()))


def check_sums(
    device: emulated.Device,
    pairs: str,
    rho: str = "exp",
    layout: str = "ragged",
    who: str = "examples",
    both_orders: bool = True,
    normalize: bool = True,
    size: int = 12,
    shuffle: bool = False,
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32),
) -> None:
    relation, m, n = relations(CLASS_SIZES[layout], who)
    generator = torch.Generator().manual_seed(size)
    for dtype in dtypes:
        mixes = cast(random_mixes(n, not both_orders, torch.float64, shuffle=shuffle), dtype)
        mixed = torch.randn(len(mixes), size, generator=generator, dtype=torch.float64)
        if not normalize:
            mixed = torch.nn.functional.normalize(mixed)
        anchors = torch.nn.functional.normalize(torch.randn(m, size, generator=generator, dtype=torch.float64))
        mixed, anchors = mixed.to(dtype), anchors.to(mixes.lam.dtype)
        rest = relation, RHO[rho], pairs, mixes, both_orders, normalize
        exact = *rest[:3], replace(mixes, lam=mixes.lam.double()), *rest[4:]
        truth = evaluate(reference.anchor_sums, (mixed.double(), anchors.double()), *exact)
        plain = evaluate(reference.anchor_sums, (mixed, anchors), *rest)
        device.run_backwards(False)
        before = device.launches()
        results = evaluate(anchor_sums, (mixed, anchors), *rest)
        assert device.launches() > before
        device.run_backwards(True)
        again = evaluate(anchor_sums, (mixed, anchors), *rest)
        for name, expected in truth.items():
            allowed = 1e-11 if dtype == torch.float64 else 4e-5 + error(plain[name], expected)
            if dtype in HALF_TYPES and name == "gradient of mixed":
                allowed = 4e-3  # it is rounded to the type of mixed
            assert error(results[name], expected) <= allowed, f"{name}, {dtype}"
            assert torch.equal(results[name], again[name]), f"{name}, {dtype}: not the same bits in another order"


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", list(RHO))
@pytest.mark.parametrize("who", ["examples", "proxies", "shuffled", "mask"])
@pytest.mark.parametrize("both_orders", [True, False], ids=["both orders", "ordered"])
def test_sums(device: emulated.Device, pairs: str, rho: str, who: str, both_orders: bool) -> None:
    for normalize in (False, True):
        check_sums(device, pairs, rho, "ragged", who, both_orders, normalize)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("layout", list(CLASS_SIZES))
@pytest.mark.parametrize("both_orders", [True, False], ids=["both orders", "ordered"])
def test_sums_of_class_layouts(device: emulated.Device, pairs: str, layout: str, both_orders: bool) -> None:
    check_sums(device, pairs, "exp", layout, both_orders=both_orders, dtypes=(torch.float32,))


@tiny_blocks
@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("who", ["examples", "mask"])
def test_sums_of_several_blocks(device: emulated.Device, pairs: str, who: str) -> None:
    CLASS_SIZES["many"] = (19, 2, 1, 7, 5, 9)
    check_sums(device, pairs, "exp", "many", who, size=7, dtypes=(torch.float32,))
    check_sums(device, pairs, "linear", "many", who, size=4, shuffle=True, dtypes=(torch.float32,))


@pytest.mark.parametrize("pairs", ["pos-neg", "neg-neg"])
@pytest.mark.parametrize("size", [2, 3, 128, 130, 260, 1028])
def test_sums_by_size(device: emulated.Device, pairs: str, size: int) -> None:
    check_sums(device, pairs, "exp", "ragged", size=size)


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_sums_of_half_types(device: emulated.Device, dtype: torch.dtype, pairs: str) -> None:
    for size, normalize in ((8, True), (5, False)):
        check_sums(device, pairs, "exp", "ragged", size=size, normalize=normalize, dtypes=(dtype,))


def test_the_norm_is_a_constant_at_its_floor(device: emulated.Device) -> None:
    relation, m, n = relations(CLASS_SIZES["pairs"], "examples")
    mixes = random_mixes(n, False, torch.float64)
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(len(mixes), 6, generator=generator, dtype=torch.float64)
    anchors = torch.randn(m, 6, generator=generator, dtype=torch.float64)
    mixed[1], mixed[4] = 0.0, 1e-14 * mixed[4]
    rest = relation, RHO["nca"], "pos-neg", mixes, True, True
    expected, actual = (evaluate(f, (mixed, anchors), *rest) for f in (reference.anchor_sums, anchor_sums))
    for name in expected:
        close(actual[name], expected[name], 1e-11)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", "linear"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_in_not_finite_out(device: emulated.Device, pairs: str, rho: str, bad: float) -> None:
    relation, m, n = relations(CLASS_SIZES["ragged"], "examples")
    mixes = random_mixes(n, False, torch.float64)
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(len(mixes), 6, generator=generator, dtype=torch.float64)
    anchors = torch.randn(m, 6, generator=generator, dtype=torch.float64)
    is_bad = (mixes.first == 1) & (mixes.second == 2) if pairs in ("pos-pos", "anc-pos") else mixes.second == n - 1
    if pairs == "neg-neg":
        is_bad &= mixes.first == 1
    others = torch.where(is_bad[:, None], -mixed, mixed)
    rest = pairs, mixes, True, False
    before, after = (reference.anchor_sums(x, anchors, relation, RHO["nca"], *rest)[0] for x in (mixed, others))
    used = (before != after).any(1)
    clean = anchor_sums(mixed, anchors, relation, RHO[rho], *rest)[0]
    mixed[is_bad] = bad
    sums = anchor_sums(mixed, anchors, relation, RHO[rho], *rest)[0]
    assert used.any()
    assert torch.equal(sums.isnan().any(1), used)
    assert torch.equal(sums[~used], clean[~used])


def test_number_of_launches_at_a_batch_of_100(device: emulated.Device) -> None:
    CLASS_SIZES["batch"] = (5,) * 20
    relation, m, n = relations(CLASS_SIZES["batch"], "examples")
    mixes = random_mixes(n, False, torch.float32)
    features = feature_maps(n, 1, 1, 1, "contiguous").float().requires_grad_()
    before = device.launches()
    pooled = mix_pool(features, torch.arange(n), mixes)
    pooled_at = device.launches()
    sums, _ = anchor_sums(pooled, torch.rand(m, 1), relation, RHO["nca"], "pos-neg", mixes, True, True)
    summed_at = device.launches()
    sums.sum().backward()
    assert (pooled_at - before, summed_at - pooled_at, device.launches() - summed_at) == (1, 2, 5)
