"""mix_pool on the CPU against the reference: values, gradients, registration, repeatability."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metrix_ext import native, reference
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.terms.mixes import TILES, Mixes, all_pairs
from tests.support.mixes_problems import assert_no_worse, feature_maps, random_mixes, relative_error

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))

LAYOUTS = ("contiguous", "channels_last", "strided")
# Examples, channels, height, width: nothing to mix, one pair, one position, tails of vectors, whole groups of pairs.
SHAPES = ((0, 3, 1, 1), (1, 5, 2, 2), (2, 5, 1, 1), (5, 1, 1, 7), (9, 16, 3, 1), (11, 37, 3, 2), (21, 70, 7, 7))


def evaluate(
    function, features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Pooled mixes, and the gradients of features and averages under a gradient that differs between elements."""
    mixes = Mixes(mixes.first, mixes.second, mixes.lam.to(dtype), mixes.begin, mixes.uses)
    leaves = [t.detach().to(dtype).requires_grad_() for t in (features, averages) if t is not None]
    pooled = function(leaves[0], order, mixes, leaves[1] if averages is not None else None)
    weights = torch.linspace(-1, 2, pooled.numel(), dtype=torch.float64).to(dtype).reshape(pooled.shape)
    return [pooled.detach(), *torch.autograd.grad((pooled * weights).sum(), leaves)]


def problem(
    shape: tuple[int, int, int, int], layout: str = "contiguous", ordered: bool = False, shuffle: bool = False
) -> tuple[Tensor, Tensor, Mixes, Tensor]:
    """Features, order, mixes and averages."""
    features = feature_maps(*shape, layout)
    generator = torch.Generator().manual_seed(7)
    order = torch.randperm(shape[0], generator=generator)
    averages = torch.randn(shape[:2], generator=generator, dtype=torch.float64)
    return features, order, random_mixes(shape[0], ordered, torch.float64, shuffle=shuffle), averages


def check_against_reference(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None) -> None:
    actual = evaluate(mix_pool, features, order, mixes, averages)
    expected = evaluate(reference.mix_pool, features, order, mixes, averages)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert relative_error(a, e) < 1e-13
    plain = evaluate(reference.mix_pool, features, order, mixes, averages, torch.float32)
    single = evaluate(mix_pool, features, order, mixes, averages, torch.float32)
    assert_no_worse(single, expected, plain, 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients(shape: tuple[int, int, int, int], layout: str) -> None:
    """Half of the features are 0: of equal maxima the first takes the gradient, as with max_pool2d."""
    for ordered in (False, True):
        for shuffle in (False, True):
            features, order, mixes, averages = problem(shape, layout, ordered, shuffle)
            for given_averages in (None, averages):
                check_against_reference(features, order, mixes, given_averages)


@given(
    examples=st.integers(0, 12),
    channels=st.integers(1, 70),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    layout=st.sampled_from(LAYOUTS),
    shuffle=st.booleans(),
    with_averages=st.booleans(),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_shape(examples, channels, height, width, layout, shuffle, with_averages) -> None:
    features, order, mixes, averages = problem((examples, channels, height, width), layout, shuffle=shuffle)
    check_against_reference(features, order, mixes, averages if with_averages else None)


def test_no_mixes_and_examples_that_none_uses() -> None:
    features, order, mixes, averages = problem((9, 20, 2, 2))
    features[4] = math.nan
    unused = int((order == 4).nonzero())
    for kept in (torch.zeros(36, dtype=torch.bool), (mixes.first != unused) & (mixes.second != unused)):
        some = Mixes.of(mixes.first[kept], mixes.second[kept], mixes.lam[kept], 9)
        for t in evaluate(mix_pool, features, order, some, averages):
            assert t.isfinite().all()
        gradient = evaluate(mix_pool, features, order, some, averages)[1]
        assert (gradient[4] == 0).all()


def test_gradcheck() -> None:
    features, order, mixes, averages = problem((4, 3, 2, 2))
    features = torch.randn(features.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = features.requires_grad_(), averages.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, a: mix_pool(f, order, mixes, a), inputs)


def test_opcheck() -> None:
    features, order, mixes, averages = problem((6, 5, 3, 2))
    for with_averages in (False, True):
        inputs = features.clone().requires_grad_(), order, *mixes.tensors, averages if with_averages else None, True
        torch.library.opcheck(torch.ops.metrix_ext.mix_pool, inputs)
    argmax = torch.zeros(len(mixes), 5, dtype=torch.int16)
    grad = torch.randn(len(mixes), 5, dtype=torch.float64)
    into = torch.zeros_like(features), torch.zeros_like(averages)
    torch.library.opcheck(torch.ops.metrix_ext.mix_pool_backward, (grad, argmax, order, *mixes.tensors, *into))


def test_compiles_into_one_graph() -> None:
    features, order, mixes, averages = problem((6, 5, 3, 2))

    def step(features: Tensor) -> Tensor:
        return mix_pool(features * 2, order, mixes, averages).square().sum()

    eager, compiled = (features.clone().requires_grad_() for _ in range(2))
    step(eager).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(compiled).backward()
    assert relative_error(compiled.grad, eager.grad) < 1e-13


def test_backward_adds() -> None:
    features, order, mixes, averages = problem((6, 5, 3, 2))
    _, argmax = torch.ops.metrix_ext.mix_pool(features, order, *mixes.tensors, averages, True)
    grad = torch.ones(argmax.shape, dtype=torch.float64)
    once, twice = ((torch.zeros_like(features), torch.zeros_like(averages)) for _ in range(2))
    for into in (once, twice, twice):
        torch.ops.metrix_ext.mix_pool_backward(grad, argmax, order, *mixes.tensors, *into)
    for a, b in zip(once, twice, strict=True):
        assert torch.allclose(2 * a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_again_and_for_any_number_of_threads(layout: str) -> None:
    inputs = problem((21, 300, 3, 3), layout)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 2, 5):
            torch.set_num_threads(count)
            results.append(evaluate(mix_pool, *inputs, torch.float32))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 3, 5])
def test_not_finite_in_not_finite_out(bad: float, position: int) -> None:
    features, order, mixes, averages = problem((9, 20, 3, 2))
    features = features.to(torch.float32) + 1
    features[4, 7, position // 2, position % 2] = bad
    single = Mixes(mixes.first, mixes.second, mixes.lam.float(), mixes.begin, mixes.uses)
    pooled, argmax = torch.ops.metrix_ext.mix_pool(features, order, *single.tensors, averages.float(), True)
    touched = torch.zeros(pooled.shape, dtype=torch.bool)
    touched[(order[mixes.first] == 4) | (order[mixes.second] == 4), 7] = True
    assert pooled[~touched].isfinite().all()
    weight = torch.where(order[mixes.first] == 4, mixes.lam, 1 - mixes.lam)[touched[:, 7]]
    seen = pooled[touched]
    if math.isnan(bad):
        assert seen.isnan().all()
        assert (argmax[touched] == position).all()
    elif bad > 0:
        assert torch.equal(seen.isinf(), weight > 0)
        assert torch.equal(seen.isnan(), weight == 0)  # 0 times infinity
        assert (argmax[touched] == position).all()
    else:
        assert torch.equal(seen.isnan(), weight == 0)
        assert (argmax[touched][weight > 0] != position).all()


def test_a_map_of_minus_infinity_has_its_maximum_first() -> None:
    features, order, mixes, _ = problem((2, 3, 2, 2))
    features.fill_(-math.inf)
    mixes.lam.fill_(0.5)
    pooled, argmax = torch.ops.metrix_ext.mix_pool(features, order, *mixes.tensors, None, True)
    assert (pooled == -math.inf).all()
    assert (argmax == 0).all()


def test_an_example_may_be_mixed_with_itself_and_weights_leave_the_unit_interval() -> None:
    features, order, _, averages = problem((5, 20, 2, 2))
    first, second = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 1, 3, 2, 0])
    lam = torch.tensor([0.25, 1.0, 1.5, -0.5, 0.0], dtype=torch.float64)
    check_against_reference(features, order, Mixes.of(first, second, lam, 5), averages)


def test_every_element_is_written() -> None:
    """What the op allocates is not zero to begin with."""
    inputs = problem((9, 37, 3, 2))
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
        try:
            assert all(t.isfinite().all() for t in evaluate(mix_pool, *inputs))
        finally:
            torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    features, order, mixes, averages = problem((6, 20, 3, 2))
    single = Mixes(mixes.first, mixes.second, mixes.lam.float(), mixes.begin, mixes.uses)
    half = features.to(dtype).requires_grad_()
    wide = half.detach().float().requires_grad_()
    pooled, expected = (mix_pool(t, order, single, averages.float()) for t in (half, wide))
    assert pooled.dtype == dtype
    assert torch.equal(pooled, expected.to(dtype))
    for t in (pooled, expected):
        t.sum().backward()
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_every_instruction_set_gives_the_same_numbers(isa: str) -> None:
    """In a process of its own, since the choice is made once."""
    script = (
        "from tests.ops.test_mix_pool import LAYOUTS, check_against_reference, problem; from metrix_ext import native\n"
        "print(native.lib().instruction_set())\n"
        "for layout in LAYOUTS:\n"
        "    check_against_reference(*problem((11, 37, 3, 2), layout))\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "METRIX_CPU_ISA": isa, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
        cwd=root,
        capture_output=True,
        text=True,
    )
    if "or this processor lacks it" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa


def test_bad_arguments_are_named() -> None:
    features, order, mixes, averages = problem((6, 5, 3, 2))
    single = Mixes(mixes.first, mixes.second, mixes.lam.float(), mixes.begin, mixes.uses)
    for change, name in (
        ({"features": features[0]}, "features"),
        ({"features": features[..., :0]}, "positions"),
        ({"features": features[:, :, :1, :1].expand(-1, -1, 256, 128)}, "positions"),
        ({"order": order[1:]}, "order"),
        ({"order": order.int()}, "order"),
        ({"mixes": single}, "mixes.lam"),
        ({"averages": averages[:, 1:]}, "averages"),
        ({"averages": averages.float()}, "averages"),
    ):
        arguments = {"features": features, "order": order, "mixes": mixes, "averages": averages, **change}
        with pytest.raises(ValueError, match=name):
            mix_pool(**arguments)
    with pytest.raises(TypeError, match="features"):
        mix_pool(features.long(), order, mixes, averages)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5, 16, 47, 64, 100])
def test_all_pairs_come_tile_by_tile(n: int, ordered: bool) -> None:
    """Each pair once; whole tiles of 32 x 32 examples first, then smaller ones, so that kernels share rows."""
    first, second = all_pairs(n, ordered, torch.device("cpu"))
    expected = {(i, j) for i in range(n) for j in range(n) if (i != j if ordered else i < j)}
    listed = list(zip(first.tolist(), second.tolist(), strict=True))
    assert len(listed) == len(expected)
    assert set(listed) == expected
    halves = 1 if ordered else 2
    for side in TILES:
        # Quarters of quarters: of a pair's number in its tile the last two bits are of the column and two of the row,
        # and then in turn one of the column and one of the row.
        bits = [torch.arange(side**2) >> k & 1 for k in range(10)]
        row = bits[2] + 2 * bits[3] + 4 * bits[5] + 8 * bits[7] + 16 * bits[9]
        column = bits[0] + 2 * bits[1] + 4 * bits[4] + 8 * bits[6] + 16 * bits[8]
        for begin in range(0, (n // side) * (n // side - 1) // halves * side**2, side**2):
            rows, columns = first[begin : begin + side**2], second[begin : begin + side**2]
            assert torch.equal(rows, rows[0] + row)
            assert torch.equal(columns, columns[0] + column)
            assert rows[0] % side == columns[0] % side == 0
