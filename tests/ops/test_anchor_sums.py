"""anchor_sums on the CPU against the reference: values, gradients, registration, repeatability."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metrix_ext import native, reference
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.mixes_problems import (
    CLASS_SIZES,
    assert_no_worse,
    flat_arguments,
    random_mixes,
    relations,
    relative_error,
)
from tests.support.problems import RHO

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))

WHO = ("examples", "proxies", "shuffled", "mask")


def problem(
    pairs: str = "pos-neg",
    rho: str = "exp",
    sizes: tuple[int, ...] = CLASS_SIZES["ragged"],
    who: str = "examples",
    both_orders: bool = True,
    normalize: bool = True,
    shuffle: bool = False,
    dim: int = 19,
) -> dict[str, object]:
    """Arguments of anchor_sums in float64."""
    who_is, anchor_count, examples = relations(sizes, who)
    mixes = random_mixes(examples, not both_orders, torch.float64, shuffle=shuffle)
    generator = torch.Generator().manual_seed(11)
    mixed = torch.randn(len(mixes), dim, generator=generator, dtype=torch.float64)
    anchors = F.normalize(torch.randn(anchor_count, dim, generator=generator, dtype=torch.float64))
    return {
        "mixed": mixed if normalize else F.normalize(mixed),
        "anchors": anchors,
        "relations": who_is,
        "rho": RHO[rho],
        "pairs": pairs,
        "mixes": mixes,
        "both_orders": both_orders,
        "normalize": normalize,
    }


def in_dtype(arguments: dict[str, object], dtype: torch.dtype) -> dict[str, object]:
    mixes = arguments["mixes"]
    mixes = Mixes(mixes.first, mixes.second, mixes.lam.to(dtype), mixes.begin, mixes.uses)
    leaves = {name: arguments[name].detach().to(dtype).requires_grad_() for name in ("mixed", "anchors")}
    return {**arguments, **leaves, "mixes": mixes}


def evaluate(function, arguments: dict[str, object], dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Sums and the gradients of mixed and anchors under a gradient that differs between elements; then the counts."""
    arguments = in_dtype(arguments, dtype)
    leaves = arguments["mixed"], arguments["anchors"]
    sums, nonzero = function(**arguments)
    weights = torch.linspace(-1, 2, sums.numel(), dtype=dtype).reshape(sums.shape)
    finite = torch.where(sums.detach().isfinite(), sums, torch.zeros_like(sums))
    gradients = torch.autograd.grad((finite * weights).sum(), leaves, allow_unused=True)
    gradients = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, gradients, strict=True)]
    return [sums.detach(), *gradients], nonzero


def check_against_reference(arguments: dict[str, object], single: bool = True) -> None:
    actual, nonzero = evaluate(anchor_sums, arguments)
    expected, true_nonzero = evaluate(reference.anchor_sums, arguments)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert relative_error(a, e) < 1e-11
    if not arguments["rho"][0].exponential:
        assert torch.equal(nonzero, true_nonzero)
    if single:
        plain = evaluate(reference.anchor_sums, arguments, torch.float32)[0]
        assert_no_worse(evaluate(anchor_sums, arguments, torch.float32)[0], expected, plain, 2e-5)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", list(RHO))
@pytest.mark.parametrize("who", WHO)
def test_values_and_gradients(pairs: str, rho: str, who: str) -> None:
    for sizes, both_orders, normalize in itertools.product(CLASS_SIZES, (False, True), (False, True)):
        arguments = problem(pairs, rho, CLASS_SIZES[sizes], who, both_orders, normalize, shuffle=sizes == "pairs")
        check_against_reference(arguments, single=sizes == "tiles")


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    pairs=st.sampled_from(PAIR_SETS),
    rho=st.sampled_from(sorted(RHO)),
    who=st.sampled_from(WHO),
    both_orders=st.booleans(),
    normalize=st.booleans(),
    shuffle=st.booleans(),
    dim=st.integers(1, 70),
)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_any_layout(sizes, pairs, rho, who, both_orders, normalize, shuffle, dim) -> None:
    dim += normalize  # of a normalised number every gradient is 0, and its relative error nothing
    check_against_reference(problem(pairs, rho, tuple(sizes), who, both_orders, normalize, shuffle, dim), single=False)


def test_anchors_and_examples_may_be_none() -> None:
    for who in ("proxies", "shuffled"):
        arguments = problem(who=who)
        none = arguments["relations"].of_rows(slice(0, 0))
        check_against_reference({**arguments, "relations": none, "anchors": arguments["anchors"][:0]})
    empty = problem()
    index, numbers = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    no_mixes = Mixes.of(index, index, numbers, empty["mixes"].examples)
    sums, _ = anchor_sums(**{**empty, "mixes": no_mixes, "mixed": empty["mixed"][:0]})
    assert (sums == -math.inf).all()


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("kept", [slice(5, None), slice(0, 4), slice(1, None, 6), slice(7, 8)])
def test_a_class_may_have_no_anchor(pairs: str, kept: slice) -> None:
    arguments = problem(pairs, sizes=(3, 4, 2, 5))
    relations = arguments["relations"].of_rows(kept)
    check_against_reference({**arguments, "relations": relations, "anchors": arguments["anchors"][kept]})


@pytest.mark.parametrize("pairs", PAIR_SETS)
def test_gradcheck(pairs: str) -> None:
    arguments = in_dtype(problem(pairs, "nca", (2, 1, 3), dim=5), torch.float64)

    def sums(mixed: Tensor, anchors: Tensor) -> Tensor:
        out = anchor_sums(**{**arguments, "mixed": mixed, "anchors": anchors})[0]
        return out[out.isfinite()]

    assert torch.autograd.gradcheck(sums, (arguments["mixed"], arguments["anchors"]))


@pytest.mark.parametrize("who", ["examples", "mask"])
def test_opcheck(who: str) -> None:
    arguments = in_dtype(problem(who=who, sizes=(2, 3), dim=5), torch.float64)
    mixed, anchors = arguments.pop("mixed"), arguments.pop("anchors")
    flat = flat_arguments(**arguments)
    torch.library.opcheck(torch.ops.metrix_ext.anchor_sums, (mixed, anchors, *flat))
    mixed, anchors = mixed.detach(), anchors.detach()
    sums, _ = torch.ops.metrix_ext.anchor_sums(mixed, anchors, *flat)
    inputs = torch.ones_like(sums), sums, mixed, anchors, *flat, torch.zeros_like(anchors)
    torch.library.opcheck(torch.ops.metrix_ext.anchor_sums_backward, inputs)


def test_compiles_into_one_graph() -> None:
    arguments = problem()

    def step(mixed: Tensor) -> Tensor:
        return torch.logaddexp(anchor_sums(**{**arguments, "mixed": 2 * mixed})[0], torch.zeros(())).sum()

    eager, compiled = (arguments["mixed"].clone().requires_grad_() for _ in range(2))
    step(eager).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(compiled).backward()
    assert relative_error(compiled.grad, eager.grad) < 1e-12


def test_a_chunk_of_the_list_takes_the_sums_of_all() -> None:
    """Backward divides by the sums over all lists: the gradients of the chunks are those of the whole."""
    arguments = problem(sizes=CLASS_SIZES["tiles"])
    (_, grad_mixed, grad_anchors), _ = evaluate(anchor_sums, arguments)
    mixed, anchors, mixes = arguments.pop("mixed"), arguments.pop("anchors"), arguments["mixes"]
    sums, _ = torch.ops.metrix_ext.anchor_sums(mixed, anchors, *flat_arguments(**arguments))
    grad_sums = torch.linspace(-1, 2, sums.numel(), dtype=sums.dtype).reshape(sums.shape)
    added, rows = torch.zeros_like(anchors), []
    for chunk in torch.arange(len(mixes)).split(48):
        part = Mixes.of(mixes.first[chunk], mixes.second[chunk], mixes.lam[chunk], mixes.examples)
        flat = flat_arguments(**{**arguments, "mixes": part})
        rows.append(torch.ops.metrix_ext.anchor_sums_backward(grad_sums, sums, mixed[chunk], anchors, *flat, added))
    assert relative_error(torch.cat(rows), grad_mixed) < 1e-12
    assert relative_error(added, grad_anchors) < 1e-12


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("who", ["examples", "mask"])
def test_same_bits_again_and_for_any_number_of_threads(pairs: str, who: str) -> None:
    # Large enough that several threads really share the work.
    arguments = problem(pairs, sizes=tuple(1 + k % 5 for k in range(15)), who=who, dim=100)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 2, 5):
            torch.set_num_threads(count)
            results.append(evaluate(anchor_sums, arguments, torch.float32)[0])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", "linear"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_in_nan_out(pairs: str, rho: str, bad: float) -> None:
    arguments = problem(pairs, rho, (3, 4, 5))
    mixed, anchors = arguments["mixed"], arguments["anchors"]
    expected = anchor_sums(**arguments)[0]
    p = len(mixed) - 1 if pairs in ("pos-pos", "anc-pos") else 0
    alone = Mixes.of(*(t[p : p + 1] for t in arguments["mixes"].tensors[:3]), len(anchors))
    single = {**arguments, "rho": RHO["exp"], "mixes": alone, "mixed": mixed[p : p + 1]}
    used = anchor_sums(**single)[0].isfinite().any(1)
    assert used.any() and not used.all()
    spoilt = mixed.clone()
    spoilt[p, 3] = bad
    sums = anchor_sums(**{**arguments, "mixed": spoilt})[0]
    assert sums[used].isnan().all()
    assert torch.equal(sums[~used], expected[~used])
    spoilt = anchors.clone()
    a = int(used.nonzero()[0])
    spoilt[a, 3] = bad
    sums = anchor_sums(**{**arguments, "anchors": spoilt})[0]
    assert sums[a].isnan().all()
    others = torch.arange(len(anchors)) != a
    assert torch.equal(sums[others], expected[others])


def test_a_nan_reaches_the_gradients_of_who_uses_it_alone() -> None:
    arguments = in_dtype(problem(sizes=(3, 4, 5)), torch.float64)
    mixes, mixed, anchors = arguments["mixes"], arguments["mixed"], arguments["anchors"]
    p = int(((mixes.first == 0) & (mixes.second == 5)).nonzero()[0])
    with torch.no_grad():
        mixed[p, 0] = math.nan
    sums, _ = anchor_sums(**arguments)
    sums[sums.isfinite()].sum().backward()
    users = torch.tensor([1, 2, 3, 4, 6])  # of the classes of both, but for themselves
    assert sums[users].isnan().all()
    others = torch.ones(len(anchors), dtype=torch.bool).index_fill(0, users, False)
    assert sums[others].isfinite().all()
    assert anchors.grad[others].isfinite().all()


def test_a_weight_of_zero_does_not_hide_other_terms() -> None:
    """With gamma = 75 the largest exponent may belong to a term of weight 0 that the others are nothing beside."""
    arguments = problem(sizes=(2, 3), normalize=False)
    arguments["mixes"].lam[::2] = 1.0
    arguments["mixed"][::2] *= 5
    check_against_reference(arguments)


@pytest.mark.parametrize("length", [0.0, 1e-14])
def test_below_the_floor_the_norm_is_a_constant(length: float) -> None:
    arguments = problem(rho="nca", sizes=(2, 3))
    arguments["mixed"][3] = F.normalize(arguments["mixed"][3], dim=0) * length
    check_against_reference(arguments, single=False)


def test_every_element_is_written() -> None:
    """What the op allocates is not zero to begin with."""
    for pairs, who in itertools.product(PAIR_SETS, WHO):
        with torch.random.fork_rng():
            torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
            try:
                (sums, *gradients), nonzero = evaluate(anchor_sums, problem(pairs, who=who))
            finally:
                torch.use_deterministic_algorithms(False)
        assert not sums.isnan().any() and nonzero.isfinite().all()
        assert all(g.isfinite().all() for g in gradients)


def test_an_empty_set_has_no_gradient() -> None:
    arguments = problem("pos-pos", who="proxies")
    mixed, anchors = arguments.pop("mixed"), arguments.pop("anchors")
    flat = flat_arguments(**arguments)
    sums, _ = torch.ops.metrix_ext.anchor_sums(mixed, anchors, *flat)
    assert (sums[:, 1] == -math.inf).all()
    grad_sums = torch.zeros_like(sums)
    grad_sums[:, 1] = 1.0
    grad_anchors = torch.zeros_like(anchors)
    grad_mixed = torch.ops.metrix_ext.anchor_sums_backward(grad_sums, sums, mixed, anchors, *flat, grad_anchors)
    assert (grad_mixed == 0).all()
    assert (grad_anchors == 0).all()


def test_inputs_need_not_be_contiguous() -> None:
    arguments = problem()
    expected = anchor_sums(**arguments)[0]
    turned = {name: arguments[name].T.contiguous().T for name in ("mixed", "anchors")}
    assert torch.equal(anchor_sums(**{**arguments, **turned})[0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    arguments = in_dtype(problem(), torch.float32)
    half = arguments["mixed"].detach().to(dtype).requires_grad_()
    wide = half.detach().float().requires_grad_()
    results = [anchor_sums(**{**arguments, "mixed": t})[0] for t in (half, wide)]
    assert results[0].dtype == torch.float32
    assert torch.equal(*results)
    for sums in results:
        sums[sums.isfinite()].sum().backward()
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_every_instruction_set_gives_the_same_numbers(isa: str) -> None:
    """In a process of its own, since the choice is made once."""
    script = (
        "from tests.ops.test_anchor_sums import PAIR_SETS, check_against_reference, problem\n"
        "from metrix_ext import native\n"
        "print(native.lib().instruction_set())\n"
        "for pairs in PAIR_SETS:\n"
        "    for rho in ('exp', 'linear'):\n"
        "        check_against_reference(problem(pairs, rho, dim=70))\n"
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
    arguments = problem()
    mixes = arguments["mixes"]
    single = Mixes(mixes.first, mixes.second, mixes.lam.float(), mixes.begin, mixes.uses)
    for change, name in (
        ({"pairs": "neg-pos"}, "pairs"),
        ({"mixed": arguments["mixed"][1:]}, "mixed"),
        ({"mixed": arguments["mixed"][:, 1:]}, "mixed"),
        ({"anchors": arguments["anchors"][0]}, "anchors"),
        ({"anchors": arguments["anchors"].float()}, "anchors"),
        ({"anchors": arguments["anchors"][1:]}, "relations.positives"),
        ({"mixes": single}, "mixes.lam"),
    ):
        with pytest.raises(ValueError, match=name):
            anchor_sums(**{**arguments, **change})
    with pytest.raises(TypeError, match="mixed"):
        anchor_sums(**{**arguments, "mixed": arguments["mixed"].long()})
