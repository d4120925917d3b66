"""mix_pool and anchor_sums as Triton kernels against the reference; run by test_triton.py as triton_cases.py is."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from triton_cases import DEVICE, RHO, distance, poisoned_memory, triton_backend  # noqa: F401

import metrix_ext as mx
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.ops.triton import anchor_sums as launches
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from metrix_ext.terms.relations import Relations
from tests.support.mixes_problems import CLASS_SIZES, feature_maps, flat_arguments, random_mixes, relations

every_dtype = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
half_types = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def moved(mixes: Mixes, device: torch.device, dtype: torch.dtype | None = None) -> Mixes:
    tensors = [t.to(device) for t in mixes.tensors]
    tensors[2] = tensors[2].to(dtype or mixes.lam.dtype)
    return Mixes(*tensors)


def weighted(result: Tensor) -> Tensor:
    """A fixed weighting of what is defined, to take gradients of."""
    weight = torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype, device=result.device).reshape(result.shape)
    return (result.masked_fill(result == -math.inf, 0) * weight).sum()


# ---- mix_pool ----------------------------------------------------------------------------------------------


def pool(
    backend: str, features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Pooled mixes, and the gradients of features and averages."""
    device = DEVICE if backend == "triton" else torch.device("cpu")
    inputs = [t.to(device).detach().requires_grad_() for t in (features, averages) if t is not None]
    lam_type = compute(features.dtype)
    with mx.use_backend(backend):
        pooled = mix_pool(inputs[0], order.to(device), moved(mixes, device, lam_type), *inputs[1:])
        gradients = torch.autograd.grad(weighted(pooled), inputs)
    return tuple(t.detach().cpu() for t in (pooled, *gradients))


def pool_problem(
    n: int, c: int, h: int, w: int, layout: str = "contiguous", ordered: bool = False, shuffle: bool = False
) -> tuple[Tensor, Tensor, Mixes, Tensor]:
    features = feature_maps(n, c, h, w, layout, seed=n + c)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    return features, order, random_mixes(n, ordered, torch.float64, shuffle=shuffle), features.mean((2, 3))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_mix_pool(layout: str, shuffle: bool) -> None:
    problem = pool_problem(9, 5, 2, 3, layout, ordered=shuffle, shuffle=shuffle)
    for given, right in zip(pool("triton", *problem), pool("reference", *problem), strict=True):
        torch.testing.assert_close(given, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((5, 300, 1, 2), id="more channels than a program has"),
        pytest.param((5, 3, 9, 9), id="more positions than registers"),
        pytest.param((6, 16, 1, 1), id="one position"),
        pytest.param((8, 1, 3, 1), id="one channel"),
        pytest.param((2, 3, 2, 2), id="one mix"),
        pytest.param((1, 3, 2, 2), id="no mix"),
    ],
)
def test_mix_pool_shapes(shape: tuple[int, int, int, int]) -> None:
    problem = pool_problem(*shape)[:3]
    for given, right in zip(pool("triton", *problem), pool("reference", *problem), strict=True):
        torch.testing.assert_close(given, right, rtol=1e-12, atol=1e-12)


@half_types
def test_mix_pool_of_half_types_is_rounded_once(dtype: torch.dtype) -> None:
    features, order, mixes, averages = pool_problem(9, 20, 2, 2, "channels_last")
    features = features.to(dtype)
    mixes = moved(mixes, mixes.lam.device, torch.float32)
    given = pool("triton", features, order, mixes, averages.float())
    right = pool("reference", features.double(), order, moved(mixes, mixes.lam.device, torch.float64), averages)
    # Triton's interpreter does not round to bfloat16 but cuts off.
    cuts_off = DEVICE.type == "cpu" and dtype == torch.bfloat16
    half_ulp = torch.finfo(dtype).eps / (1 if cuts_off else 2)
    assert given[0].dtype == given[1].dtype == dtype
    assert given[2].dtype == torch.float32
    torch.testing.assert_close(given[0].double(), right[0], rtol=1.01 * half_ulp, atol=1e-6)
    # The gradients that come in are rounded, too.
    for gradient, truth in zip(given[1:], right[1:], strict=True):
        assert distance(gradient, truth) < 2 * half_ulp


def test_mix_pool_in_float32() -> None:
    features, order, mixes, averages = pool_problem(9, 20, 2, 2)
    single = features.float(), order, moved(mixes, mixes.lam.device, torch.float32), averages.float()
    truth = pool("reference", features.float().double(), order, mixes, averages.float().double())
    for given, naive, right in zip(pool("triton", *single), pool("reference", *single), truth, strict=True):
        assert distance(given, right) <= 2 * distance(naive, right) + 1e-7


def test_first_of_equal_maxima_takes_the_gradient() -> None:
    _, order, mixes, _ = pool_problem(9, 5, 2, 3)
    _, gradient = pool("triton", torch.ones(9, 5, 2, 3), order, mixes)
    assert (gradient[:, :, 0, 0] > 0).all()
    assert gradient.flatten(2)[:, :, 1:].abs().max() == 0


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_nan_comes_out_where_it_is_mixed(shuffle: bool, with_gradient: bool) -> None:
    features, order, mixes, _ = pool_problem(9, 5, 2, 3, shuffle=shuffle)
    place = torch.arange(len(mixes), device=DEVICE)
    moved_mixes = moved(mixes, DEVICE)

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = mix_pool(x.requires_grad_(with_gradient), order.to(DEVICE), moved_mixes)
        return pooled.detach(), torch.autograd.grad(weighted(pooled), x)[0] if with_gradient else x

    before, _ = run(features.to(DEVICE).clone())
    features[order[4], 2, 1, 1] = math.nan
    pooled, gradient = run(features.to(DEVICE))
    expected = torch.zeros_like(pooled, dtype=torch.bool)
    expected[place, 2] = (moved_mixes.first == 4) | (moved_mixes.second == 4)
    assert torch.equal(pooled.isnan(), expected)
    assert torch.equal(pooled[~expected], before[~expected])
    if with_gradient:
        assert gradient[order[4], 2, 1, 1] != 0
        assert gradient[order[4], 2].count_nonzero() == 1


def test_argmax_and_chunks_added_in_place() -> None:
    """The ops as they are called on a part of a list after the other."""
    features, order, mixes, averages = (t if isinstance(t, Mixes) else t.to(DEVICE) for t in pool_problem(9, 5, 2, 3))
    mixes = moved(mixes, DEVICE)
    whole = pool("reference", features, order, mixes, averages)
    mixed = torch.lerp(features[order[mixes.second]], features[order[mixes.first]], mixes.lam[:, None, None, None])
    expected = F.max_pool2d(mixed, (2, 3), return_indices=True)[1].flatten(1)
    given = torch.ones_like(features), torch.ones_like(averages)
    weight = torch.linspace(0.5, 1.5, len(mixes) * 5, dtype=torch.float64, device=DEVICE).reshape(-1, 5)
    for begin in range(0, len(mixes), 16):
        rows = slice(begin, begin + 16)
        part = Mixes.of(mixes.first[rows], mixes.second[rows], mixes.lam[rows], 9).tensors
        pooled, argmax = torch.ops.metrix_ext.mix_pool(features, order, *part, averages, True)
        assert torch.equal(argmax.long(), expected[rows])
        torch.testing.assert_close(pooled.cpu(), whole[0][rows])
        torch.ops.metrix_ext.mix_pool_backward(weight[rows], argmax, order, *part, *given)
    for added, right in zip(given, whole[1:], strict=True):
        torch.testing.assert_close(added.cpu() - 1, right)


# ---- anchor_sums -------------------------------------------------------------------------------------------


def sums(
    backend: str,
    dtype: torch.dtype,
    mixed: Tensor,
    anchors: Tensor,
    related: Relations,
    rho: str,
    pairs: str,
    mixes: Mixes,
    both_orders: bool,
    normalize: bool,
) -> tuple[Tensor, ...]:
    """sums, nonzero, and the gradients of mixed and anchors; all arguments in float64 on the CPU."""
    device = DEVICE if backend == "triton" else torch.device("cpu")
    inputs = [mixed.to(device, dtype), anchors.to(device, compute(dtype))]
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    here = (t if t is None else t.to(device) for t in (related.positives, related.self_index, related.mask))
    listed = moved(mixes, device, compute(dtype))
    with mx.use_backend(backend):
        given, nonzero = anchor_sums(*inputs, Relations(*here), RHO[rho], pairs, listed, both_orders, normalize)
        gradients = torch.autograd.grad(weighted(given), inputs)
    return tuple(t.detach().cpu() for t in (given, nonzero, *gradients))


def sums_problem(
    sizes: str = "ragged",
    who: str = "examples",
    pairs: str = "pos-neg",
    rho: str = "exponential",
    both_orders: bool = True,
    normalize: bool = True,
    size: int = 5,
    shuffle: bool = True,
) -> tuple[Tensor, Tensor, Relations, str, str, Mixes, bool, bool]:
    related, m, n = relations(CLASS_SIZES[sizes], who)
    mixes = random_mixes(n, not both_orders, torch.float64, shuffle=shuffle)
    generator = torch.Generator().manual_seed(m + n)
    mixed, anchors = (
        F.normalize(torch.randn(count, size, generator=generator, dtype=torch.float64)) for count in (len(mixes), m)
    )
    return mixed * (3 if normalize else 1), anchors, related, rho, pairs, mixes, both_orders, normalize


def assert_right(problem: tuple, dtype: torch.dtype = torch.float64) -> None:
    """float64: the reference. float32: no further from it than the reference in float32, beside a small floor."""
    rounded = (*(t.to(dtype).double() for t in problem[:2]), *problem[2:5], problem[5], *problem[6:])
    truth = sums("reference", torch.float64, *rounded)
    given = sums("triton", dtype, *rounded)
    naive = truth if dtype == torch.float64 else sums("reference", dtype, *rounded)
    floor = 1e-12 if dtype == torch.float64 else 2e-6
    if problem[3] == "linear":
        assert torch.equal(given[1].double(), truth[1])
    for index in (0, 2, 3):
        assert distance(given[index], truth[index]) <= 2 * distance(naive[index], truth[index]) + floor


# The sets with the anchor need anchors that are examples.
WHO = ("examples", "mask", "proxies", "shuffled")
GRID = [
    case
    for case in itertools.product(CLASS_SIZES, WHO, PAIR_SETS, RHO, (False, True), (False, True))
    if not (case[2].startswith("anc-") and case[1] in ("proxies", "shuffled")) and case[0] != "tiles"
]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if k % 17 == 0 else pytest.mark.slow) for k, case in enumerate(GRID)], ids=str
)
def test_anchor_sums(case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "PROGRAMS", 2)
    assert_right(sums_problem(*case))


@pytest.mark.parametrize(
    ("who", "pairs"),
    [
        ("examples", "pos-neg"),
        *(
            pytest.param(who, pairs, marks=pytest.mark.slow)
            for who, pairs in itertools.product(WHO, PAIR_SETS)
            if who in ("examples", "mask") or not pairs.startswith("anc-")
        ),
    ],
)
def test_more_anchors_than_a_block(who: str, pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles in the order of all_pairs, several in a slice, and classes that are in two blocks of anchors."""
    monkeypatch.setattr(launches, "PROGRAMS", 4)
    assert_right(sums_problem("tiles", who, pairs, shuffle=False))


@pytest.mark.parametrize("size", [40, 300])
def test_sizes_of_embeddings(size: int) -> None:
    """More than a step of a product, and more than the registers of a gradient."""
    assert_right(sums_problem("pairs", size=size), torch.float32)


@pytest.mark.parametrize("pairs", ["pos-neg", pytest.param("anc-pos", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rho", RHO)
def test_anchor_sums_in_float32(pairs: str, rho: str) -> None:
    assert_right(sums_problem(pairs=pairs, rho=rho), torch.float32)


@half_types
@pytest.mark.parametrize("normalize", [False, True])
def test_half_types_of_mixes_are_computed_in_float32(dtype: torch.dtype, normalize: bool) -> None:
    mixed, *rest = sums_problem("pairs", normalize=normalize)
    rounded = mixed.to(dtype).double()
    truth = sums("reference", torch.float64, rounded, *rest)
    given = sums("triton", dtype, rounded, *rest)
    assert given[2].dtype == dtype
    assert given[0].dtype == given[3].dtype == torch.float32
    for index, most in ((0, 2e-6), (2, torch.finfo(dtype).eps), (3, 1e-5)):
        assert distance(given[index], truth[index]) < most


def test_mixes_below_the_smallest_norm() -> None:
    """Divided by it, and their gradients, too."""
    problem = sums_problem("pairs", rho="linear")
    problem[0][:4] = 0
    problem[0][4:8] *= 1e-14
    assert_right(problem)
    assert sums("triton", torch.float64, *problem)[2][:8].abs().max() > 1e9


def test_nan_in_a_mix_reaches_the_anchors_that_use_it() -> None:
    problem = sums_problem(shuffle=False)
    before = sums("triton", torch.float64, *problem)
    mixes, related = problem[5], problem[2].dense(11)
    problem[0][7, 1] = math.nan
    after = sums("triton", torch.float64, *problem)
    first, second = related[:, mixes.first[7]], related[:, mixes.second[7]]
    users = first * second == -1
    assert users.any()
    assert after[0][users].isnan().all()
    assert torch.equal(after[0][~users], before[0][~users])
    assert after[2][7].isnan().any()
    assert after[3][users].isnan().any()


def test_nan_in_an_anchor_reaches_its_mixes() -> None:
    problem = sums_problem(shuffle=False)
    mixes, related = problem[5], problem[2].dense(11)
    problem[1][5, 0] = math.nan
    given = sums("triton", torch.float64, *problem)
    used = related[5, mixes.first] * related[5, mixes.second] == -1
    assert torch.equal(given[0].isnan().any(1), torch.arange(11) == 5)
    assert given[2][used].isnan().any(1).all()


@pytest.mark.parametrize("sizes", ["one", "singletons"])
def test_empty_sets_ignore_the_upstream_gradient(sizes: str) -> None:
    """One example has no mix; singletons have no positives."""
    mixed, anchors, related, rho, pairs, mixes, *flags = sums_problem(sizes)
    mixed, anchors = mixed.to(DEVICE).requires_grad_(), anchors.to(DEVICE).requires_grad_()
    here = Relations(related.positives.to(DEVICE), related.self_index.to(DEVICE))
    given, _ = anchor_sums(mixed, anchors, here, RHO[rho], pairs, moved(mixes, DEVICE), *flags)
    assert (given == -math.inf).all()
    given.backward(torch.full_like(given, math.nan))
    for leaf in (mixed, anchors):
        assert leaf.grad is not None
        assert leaf.grad.eq(0).all()


def test_no_anchor() -> None:
    mixed, anchors, related, rho, pairs, mixes, *flags = sums_problem()
    none = related.of_rows(slice(0, 0))
    given = sums("triton", torch.float64, mixed, anchors[:0], none, rho, pairs, mixes, *flags)
    assert given[0].shape == (0, 2)
    assert given[2].eq(0).all()


def test_gradients_of_anchors_are_added_in_place_and_repeatable() -> None:
    mixed, anchors, related, rho, pairs, mixes, *flags = sums_problem()
    mixed, anchors = mixed.to(DEVICE), anchors.to(DEVICE)
    here = Relations(related.positives.to(DEVICE), related.self_index.to(DEVICE))
    args = mixed, anchors, *flat_arguments(here, RHO[rho], pairs, moved(mixes, DEVICE), *flags)
    given, _ = torch.ops.metrix_ext.anchor_sums(*args)
    results = []
    for begin in (0.0, 0.0, 1.0):
        total = torch.full_like(anchors, begin)
        upstream = torch.ones_like(given)
        results.append((torch.ops.metrix_ext.anchor_sums_backward(upstream, given, *args, total), total))
    assert all(map(torch.equal, *results[:2]))
    torch.testing.assert_close(results[2][1], results[0][1] + 1)
    assert torch.equal(torch.ops.metrix_ext.anchor_sums(*args)[0], given)
