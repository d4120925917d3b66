"""pair_sums on the CPU: what test_every_op.py, which compares it with the reference, leaves out."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metrix_ext as mx
from metrix_ext import native
from metrix_ext.ops import pair_sums
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.op_checks import check_values
from tests.support.ops import PAIR_SUMS
from tests.support.problems import GIVEN, RHO, WITH_MARGINS, check_diagonals, check_with_clean, make_problem

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=0, max_size=7),
    pairs=st.sampled_from(("clean", *PAIR_SETS)),
    rho=st.sampled_from(sorted(RHO | WITH_MARGINS)),
    masked=st.booleans(),
    renormalize=st.booleans(),
    proxies=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_any_layout(sizes, pairs, rho, masked, renormalize, proxies, seed) -> None:
    renormalize = renormalize and pairs != "clean"
    drawn = make_problem(pairs, rho, tuple(sizes), masked, renormalize, False, proxies, seed)
    check_values(PAIR_SUMS, drawn.arguments(), [torch.float64])


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", [*RHO, *WITH_MARGINS])
def test_with_clean(backend: str, pairs: str, rho: str) -> None:
    for masked, renormalize, proxies in itertools.product((False, True), repeat=3):
        check_with_clean(make_problem(pairs, rho, "ragged", masked, renormalize, proxies=proxies))
    check_with_clean(make_problem(pairs, rho, "empty"))
    if pairs in ("pos-neg", "pos-pos") and backend != "reference":
        check_with_clean(make_problem(pairs, rho).window(5, 9))


@pytest.mark.parametrize(("pairs", "given"), GIVEN)
@pytest.mark.parametrize("rho", ["nca", "linear"])
def test_diagonals(backend: str, pairs: str, given: tuple[str, ...], rho: str) -> None:
    check_diagonals(pairs, rho, given)


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
@pytest.mark.parametrize("rho", ["exp", "linear"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_in_not_finite_out(pairs: str, rho: str, bad: float) -> None:
    problem = make_problem(pairs, rho, "ragged")
    similarity = problem.floats["similarity"]
    a, x = 0, len(similarity) - 1  # of another class
    partner = 1 if pairs in ("pos-pos", "anc-pos") else x
    similarity[a, partner] = bad
    sums = pair_sums(**problem.arguments())[0]
    assert not sums[a].nan_to_num(nan=math.nan, posinf=math.nan, neginf=0.0).isfinite().all()
    assert not sums[1:].isnan().any(), "an anchor that the value does not touch became NaN"


def test_a_lambda_of_zero_does_not_hide_other_terms() -> None:
    """With gamma = 75 the largest exponent may belong to a term of weight 0 that the others are nothing beside."""
    problem = make_problem("pos-neg", "exp", "ragged", renormalize=False)
    problem.floats["lam"][0, ::2] = 1.0  # weight 0 in the negative sum, similarity that of the positive
    problem.floats["similarity"][:, 0] = 5.0
    check_values(PAIR_SUMS, problem.arguments())


def test_opposite_examples_of_equal_weight_have_similarity_zero() -> None:
    """Their mix is the zero vector, which normalising leaves at zero."""
    problem = make_problem("pos-neg", "nca", "two")
    problem.relations = problem.relations.keep_pairs(torch.tensor([[1, -1], [1, -1]], dtype=torch.int8))
    problem.relations.self_index.fill_(-1)
    problem.relations.mask[:] = torch.tensor([1, -1], dtype=torch.int8)
    problem.floats.update(
        lam=torch.full((2, 2), 0.5).double(),
        gram=torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double(),
        similarity=torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double(),
    )
    sums = pair_sums(**problem.arguments())[0]
    assert torch.allclose(sums, torch.full((2, 2), math.log(0.5)).double())


def test_a_backend_that_cannot_run_says_why() -> None:
    with pytest.raises(ValueError, match="expected one of reference"):
        mx.use_backend("gpu").__enter__()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="'cuda' cannot run"):
            mx.use_backend("cuda").__enter__()


@pytest.mark.parametrize("pairs", ["anc-neg", "anc-pos"])
def test_one_tensor_may_be_several_arguments(pairs: str) -> None:
    """Of anchors that are mixed as they are, s(a, a) is the squared norm: callers have one tensor for both."""
    problem = make_problem(pairs, proxies=True)
    shared = problem.arguments()
    shared["self_sqnorm"] = shared["self_similarity"]
    copied = {**shared, "self_sqnorm": shared["self_similarity"].clone()}
    assert torch.equal(pair_sums(**shared)[0], pair_sums(**copied)[0])
