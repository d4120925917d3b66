"""anchor_sums on the CPU: what test_every_op.py, which compares it with the reference, leaves out."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from metrix_ext import native
from metrix_ext.ops.anchor_sums import add_gradients, anchor_sums
from metrix_ext.ops.arguments import AnchorSumsArguments
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.compare import assert_near
from tests.support.mixes_problems import CLASS_SIZES, WHO, flat_arguments, sums_problem
from tests.support.op_checks import check_values, evaluate, prepare, upstream
from tests.support.ops import ANCHOR_SUMS
from tests.support.problems import RHO, WITH_MARGINS

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    pairs=st.sampled_from(PAIR_SETS),
    rho=st.sampled_from(sorted(RHO | WITH_MARGINS)),
    who=st.sampled_from(WHO),
    both_orders=st.booleans(),
    normalize=st.booleans(),
    shuffle=st.booleans(),
    dim=st.integers(1, 70),
)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_any_layout(sizes, pairs, rho, who, both_orders, normalize, shuffle, dim) -> None:
    dim += normalize  # of a normalised number every gradient is 0, and its relative error nothing
    arguments = sums_problem(pairs, rho, tuple(sizes), who, both_orders, normalize, shuffle, dim)
    check_values(ANCHOR_SUMS, arguments, [torch.float64])


def test_anchors_and_examples_may_be_none() -> None:
    for who in ("proxies", "shuffled"):
        arguments = sums_problem(who=who)
        none = arguments["relations"].of_rows(slice(0, 0))
        check_values(ANCHOR_SUMS, {**arguments, "relations": none, "anchors": arguments["anchors"][:0]})
    empty = sums_problem()
    index, numbers = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    no_mixes = Mixes.of(index, index, numbers, empty["mixes"].examples)
    sums, _ = anchor_sums(**{**empty, "mixes": no_mixes, "mixed": empty["mixed"][:0]})
    assert (sums == -math.inf).all()


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("kept", [slice(5, None), slice(0, 4), slice(1, None, 6), slice(7, 8)])
def test_a_class_may_have_no_anchor(pairs: str, kept: slice) -> None:
    arguments = sums_problem(pairs, sizes=(3, 4, 2, 5))
    relations = arguments["relations"].of_rows(kept)
    check_values(ANCHOR_SUMS, {**arguments, "relations": relations, "anchors": arguments["anchors"][kept]})


def test_a_chunk_of_the_list_takes_the_sums_of_all() -> None:
    """Backward divides by the sums over all lists: the gradients of the chunks are those of the whole."""
    arguments = sums_problem(sizes=CLASS_SIZES["tiles"])
    whole = evaluate(ANCHOR_SUMS, arguments)
    mixed, anchors, mixes = arguments.pop("mixed"), arguments.pop("anchors"), arguments["mixes"]
    sums, _ = torch.ops.metrix_ext.anchor_sums(mixed, anchors, *flat_arguments(**arguments))
    grad_sums = upstream(sums)
    added, rows = torch.zeros_like(anchors), []
    for chunk in torch.arange(len(mixes)).split(48):
        part = Mixes.of(mixes.first[chunk], mixes.second[chunk], mixes.lam[chunk], mixes.examples)
        flat = flat_arguments(**{**arguments, "mixes": part})
        chunk_arguments = AnchorSumsArguments(mixed[chunk], anchors, *flat)
        rows.append(add_gradients(grad_sums, sums, chunk_arguments, added))
    assert_near(torch.cat(rows), whole["gradient of mixed"], 1e-12)
    assert_near(added, whole["gradient of anchors"], 1e-12)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", "linear"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_in_nan_out(pairs: str, rho: str, bad: float) -> None:
    arguments = sums_problem(pairs, rho, (3, 4, 5))
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
    arguments = prepare(ANCHOR_SUMS, sums_problem(sizes=(3, 4, 5)), torch.float64)
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
    arguments = sums_problem(sizes=(2, 3), normalize=False)
    arguments["mixes"].lam[::2] = 1.0
    arguments["mixed"][::2] *= 5
    check_values(ANCHOR_SUMS, arguments)


@pytest.mark.parametrize("length", [0.0, 1e-14])
def test_below_the_floor_the_norm_is_a_constant(length: float) -> None:
    arguments = sums_problem(rho="nca", sizes=(2, 3))
    arguments["mixed"][3] = F.normalize(arguments["mixed"][3], dim=0) * length
    check_values(ANCHOR_SUMS, arguments, [torch.float64])


def test_an_empty_set_has_no_gradient() -> None:
    arguments = sums_problem("pos-pos", who="proxies")
    mixed, anchors = arguments.pop("mixed"), arguments.pop("anchors")
    flat = flat_arguments(**arguments)
    sums, _ = torch.ops.metrix_ext.anchor_sums(mixed, anchors, *flat)
    assert (sums[:, 1] == -math.inf).all()
    grad_sums = torch.zeros_like(sums)
    grad_sums[:, 1] = 1.0
    grad_mixed, grad_anchors = torch.ops.metrix_ext.anchor_sums_backward(grad_sums, sums, mixed, anchors, *flat)
    assert (grad_mixed == 0).all()
    assert (grad_anchors == 0).all()


def test_inputs_need_not_be_contiguous() -> None:
    arguments = sums_problem()
    expected = anchor_sums(**arguments)[0]
    turned = {name: arguments[name].T.contiguous().T for name in ("mixed", "anchors")}
    assert torch.equal(anchor_sums(**{**arguments, **turned})[0], expected)
