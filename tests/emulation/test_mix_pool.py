"""mix_pool on the emulated device: half types, where the maxima are, tiles; the rest is in test_every_op.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metrix_ext import reference
from metrix_ext.ops.mix_pool import launch_backward, launch_forward, mix_pool
from metrix_ext.terms.mixes import Mixes
from tests.emulation.device import emulated
from tests.emulation.device.emulated import tiny_blocks
from tests.support.compare import assert_elements_near
from tests.support.mixes_problems import feature_maps, random_mixes

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
HALF_TYPES = (torch.bfloat16, torch.float16)


def assert_within(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert_elements_near(actual, expected, tolerance, tolerance, equal_nan=True)


def cast(mixes: Mixes, dtype: torch.dtype) -> Mixes:
    return replace(mixes, lam=mixes.lam.to(torch.float64 if dtype == torch.float64 else torch.float32))


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
    assert_within(pooled, truth, tolerance)
    assert_within(alone, truth, tolerance)
    assert ((argmax >= 0) & (argmax < maps.shape[2])).all()
    at_argmax = maps.gather(2, argmax.long()[..., None])[..., 0]
    assert_within(at_argmax, maps.amax(2), tolerance)
    if dtype == torch.float64:
        first = (maps >= maps.amax(2, keepdim=True) - 1e-14).int().argmax(2)
        assert (argmax == first).float().mean() > 0.99

    # The gradient of the maximum that was picked, whether or not rounding picked another.
    leaf = features.double().requires_grad_()
    picked = mixed_maps(leaf, order, mixes).gather(2, argmax.long()[..., None])[..., 0]
    picked.backward(grad_pooled.double())
    assert leaf.grad is not None
    assert_within(grad_features - 1, leaf.grad, 1e-12 if dtype == torch.float64 else 2e-5)
    if rest:
        lam = mixes.lam.double()[:, None] * grad_pooled.double()
        expected = torch.zeros(examples, channels, dtype=torch.float64)
        expected.index_add_(0, order[mixes.first], lam)
        expected.index_add_(0, order[mixes.second], grad_pooled.double() - lam)
        assert_within(rest[0] - 1, expected, 1e-12 if dtype == torch.float64 else 2e-5)


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
@pytest.mark.parametrize("with_argmax", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tiles_are_staged_once(
    device: emulated.Device, with_argmax: bool, dtype: torch.dtype, size: tuple[int, int]
) -> None:
    """Whole tiles of half maps, whatever their number of positions: every row of a tile is copied once."""
    # A warp takes 8 x 8 examples, with positions of the maxima 4 x 4, a block 2 x 2 or 4 x 4 warps.
    tile, examples, channels = (16, 40, 256) if device.has_tiny_blocks else (32, 70, 64 * 512)
    tile //= 2 if with_argmax else 1
    features = feature_maps(examples, channels, *size, "channels_last").to(dtype)
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(1))
    mixes = cast(random_mixes(examples, False, torch.float64), dtype)
    averages = torch.rand(examples, channels, generator=torch.Generator().manual_seed(2))
    before = device.copied_bytes()
    pooled, argmax = pool(features, order, mixes, averages, with_argmax=with_argmax)
    whole = examples // tile
    rows = 2 * tile * (whole * (whole - 1) // 2)
    positions = max(4, 2 * math.ceil(size[0] * size[1] / 2))  # two stages of two at least
    assert device.copied_bytes() - before == rows * channels * positions * features.element_size()
    lam, of_example = mixes.lam[:, None], averages[order]
    mean = lam * of_example[mixes.first] + (1 - lam) * of_example[mixes.second]
    maps, tolerance = mixed_maps(features, order, mixes), {torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    assert_within(pooled, maps.amax(2) + mean, tolerance)
    if with_argmax:
        assert_within(maps.gather(2, argmax.long()[..., None])[..., 0], maps.amax(2), tolerance)


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
        assert_within(pooled.double() / largest, maps.amax(2) / largest, tolerance)
        assert_within(alone.double() / largest, maps.amax(2) / largest, tolerance)
        assert_within(maps.gather(2, argmax.long()[..., None])[..., 0] / largest, maps.amax(2) / largest, tolerance)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (7, 7), (9, 8)])
def test_pool_by_number_of_positions(device: emulated.Device, dtype: torch.dtype, size: tuple[int, int]) -> None:
    check_pool(device, dtype, "channels_last", 4, size, examples=6)


@tiny_blocks
def test_gradient_of_more_positions_than_shared_memory_holds(device: emulated.Device) -> None:
    check_pool(device, torch.float32, "channels_last", 3, (13, 11), examples=5)


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
    assert_within(
        pool(features, torch.arange(6), mixes, None)[0], mixed_maps(features, torch.arange(6), mixes).amax(2), 1e-6
    )


def test_empty_lists_and_lonely_examples(device: emulated.Device) -> None:
    for examples in (1, 2, 3):
        features = feature_maps(examples, 3, 2, 2, "contiguous").requires_grad_()
        mixes = random_mixes(examples, False, torch.float64)
        pooled = mix_pool(features, torch.arange(examples), mixes)
        assert pooled.shape == (examples * (examples - 1) // 2, 3)
        pooled.sum().backward()
        assert features.grad is not None
        assert features.grad.isfinite().all()
