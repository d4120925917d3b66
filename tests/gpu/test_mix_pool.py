"""mix_pool on a device: the problems of the CPU, half types, and tiles in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops.mix_pool import compute_dtype, mix_pool
from metrix_ext.terms.mixes import Mixes
from tests.gpu.checks import check, every_problem, on_cuda
from tests.support.compare import assert_elements_near, assert_same_bits
from tests.support.mixes_problems import feature_maps, random_mixes
from tests.support.op_checks import Arguments, Budget, given_as, upstream
from tests.support.ops import MIX_POOL

pytestmark = on_cuda

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Of a pooled mix: half types round the ratio of the weights, the mix, and the result.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@every_problem(MIX_POOL)
def test_values_and_gradients(make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check(MIX_POOL, arguments, budget=Budget(1e-12, 1e-5))


def pool_step(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor) -> tuple[Tensor, ...]:
    """Pooled mixes and the gradients of features and averages; a graph can hold this."""
    features, averages = features.detach().requires_grad_(), averages.detach().requires_grad_()
    pooled = mix_pool(features, order, mixes, averages)
    return pooled.detach(), *torch.autograd.grad(pooled, (features, averages), upstream(pooled))


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
    mixes = given_as(random_mixes(n, False, torch.float64, shuffle=shuffle), compute_dtype(features), "cuda")
    averages = features.double().mean((2, 3)).to(mixes.lam.dtype)
    results = pool_step(features, order, mixes, averages)
    assert_same_bits(pool_step(features, order, mixes, averages), results, "the second time")
    with mx.use_backend("reference"):
        truth = pool_step(features.double(), order, given_as(mixes, torch.float64, "cuda"), averages.double())
    tolerance = TOLERANCE[dtype]
    assert_elements_near(results[0], truth[0], tolerance, tolerance, "pooled")
    assert_elements_near(results[2], truth[2], tolerance, tolerance, "gradient of averages")
    if dtype.itemsize >= 4:  # half types may pick another of two maxima that rounding makes equal
        assert_elements_near(results[1], truth[1], tolerance, tolerance, "gradient of features")
    else:
        sums = (t.double().sum((2, 3)) for t in (results[1], truth[1]))
        assert_elements_near(*sums, 10 * tolerance, 10 * tolerance, "gradient of features, over positions")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("aligned", [True, False], ids=["tiles", "averages not aligned"])
def test_pool_of_many_mixes(dtype: torch.dtype, aligned: bool) -> None:
    """Tiles in shared memory, whose mixes are those that a warp pools alone when it looks for the maxima, too."""
    n, channels = 264, 2048
    features = feature_maps(n, channels, 3, 3, "channels_last").to(dtype).cuda()
    order = torch.randperm(n, device="cuda")
    mixes = given_as(random_mixes(n, False, torch.float64), torch.float32, "cuda")
    averages = features.float().mean((2, 3))
    if not aligned:
        averages = torch.cat((averages.new_zeros(1), averages.flatten()))[1:].view(n, channels)
    alone = mix_pool(features, order, mixes, averages)
    with_maxima = mix_pool(features.detach().requires_grad_(), order, mixes, averages)
    assert_elements_near(alone, with_maxima, TOLERANCE[dtype], TOLERANCE[dtype])
