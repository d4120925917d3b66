"""The ops on the CPU against the reference: values, gradients, registration, repeatability."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv
from torch import Tensor

import metrix_ext as mx
from metrix_ext import native, reference
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.ops.gram import gram
from metrix_ext.terms.beta import quantile_polynomial
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.support.loop_oracle import philox4x32
from tests.support.problems import CASES, CLASS_SIZES, GIVEN, RHO, check_diagonals, check_with_clean, make_problem

pytestmark = pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))


def evaluate(function, problem, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Sums, counts, and the gradients under an upstream gradient that differs from anchor to anchor."""
    arguments = problem.arguments(dtype, grad=True)
    sums, nonzero = function(**arguments)
    weights = torch.linspace(0.5, 2.0, sums.numel(), dtype=sums.dtype).reshape(sums.shape)
    finite = torch.where(sums.detach().isfinite(), sums, torch.zeros_like(sums))
    (finite * weights).sum().backward()
    grads = {n: t.grad for n, t in arguments.items() if isinstance(t, Tensor) and t.requires_grad}
    return sums.detach(), nonzero, {n: torch.zeros(()) if g is None else g for n, g in grads.items()}


def assert_same(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Equal infinities, and a relative l2 error of the rest below the tolerance; names the worst element."""
    actual = actual.to(expected.dtype).expand_as(expected)
    assert torch.equal(actual.isinf(), expected.isinf()), what
    difference = torch.where(expected.isinf(), 0.0, actual - expected)
    error = difference.norm() / (1e-12 + torch.where(expected.isinf(), 0.0, expected).norm())
    worst = int(difference.abs().argmax()) if difference.numel() else None
    assert error <= tolerance, f"{what}: relative l2 error {error:.2e}, worst at flat index {worst}"


def check_against_reference(problem, dtype: torch.dtype = torch.float64) -> None:
    sums, nonzero, grads = evaluate(pair_sums, problem, dtype)
    true_sums, true_nonzero, true_grads = evaluate(reference.pair_sums, problem)
    if dtype == torch.float64:
        floor = naive = 1e-11
        naive_grads = dict.fromkeys(true_grads, naive)
    else:
        # The design's rule: no worse than the plain formula in the same type, plus a few roundings.
        floor = 2e-5
        plain_sums, _, plain_grads = evaluate(reference.pair_sums, problem, dtype)
        naive = _error(plain_sums, true_sums)
        naive_grads = {n: _error(plain_grads[n], g) for n, g in true_grads.items()}
    assert_same(sums, true_sums, naive + floor, "sums")
    if not problem.rho[0].exponential:
        assert torch.equal(nonzero.double(), true_nonzero)
    for name, expected in true_grads.items():
        assert_same(grads[name], expected, naive_grads[name] + floor, f"gradient of {name}")


def _error(actual: Tensor, expected: Tensor) -> float:
    finite = expected.isfinite()
    difference = (actual.double() - expected).expand_as(expected)[finite]
    return float(difference.norm() / (1e-12 + expected[finite].norm()))


# ---- pair_sums ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pairs", "rho", "layout", "masked"), CASES)
def test_values_and_gradients(pairs: str, rho: str, layout: str, masked: bool) -> None:
    for renormalize in (False,) if pairs == "clean" else (False, True):
        for scalar_lambda, proxies in itertools.product((False, True), repeat=2):
            check_against_reference(
                make_problem(pairs, rho, layout, masked, renormalize, scalar_lambda, proxies, seed=3)
            )


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
@pytest.mark.parametrize("rho", list(RHO))
def test_float32_is_no_worse_than_the_plain_formula(pairs: str, rho: str) -> None:
    for layout in ("ragged", "wide"):
        check_against_reference(make_problem(pairs, rho, layout, seed=5, dim=32), torch.float32)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=0, max_size=7),
    pairs=st.sampled_from(("clean", *PAIR_SETS)),
    rho=st.sampled_from(sorted(RHO)),
    masked=st.booleans(),
    renormalize=st.booleans(),
    proxies=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_any_layout(sizes, pairs, rho, masked, renormalize, proxies, seed) -> None:
    CLASS_SIZES["drawn"] = tuple(sizes)
    renormalize = renormalize and pairs != "clean"
    check_against_reference(make_problem(pairs, rho, "drawn", masked, renormalize, False, proxies, seed))


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_gradcheck(pairs: str) -> None:
    problem = make_problem(pairs, "nca", "ragged")
    arguments = problem.arguments(grad=True)
    names = [n for n, t in arguments.items() if isinstance(t, Tensor) and t.requires_grad]

    def sums(*tensors: Tensor) -> Tensor:
        out = pair_sums(**{**arguments, **dict(zip(names, tensors, strict=True))})[0]
        return out[out.isfinite()]

    assert torch.autograd.gradcheck(sums, [arguments[n] for n in names])


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_opcheck(pairs: str) -> None:
    arguments = make_problem(pairs).arguments(grad=True)
    relations, rho = arguments["relations"], arguments["rho"]
    flat = [v for r in rho for v in (r.scale, r.shift, r.floor)]
    optional = [arguments.get(n) for n in ("lam", "gram", "sqnorm", "self_similarity", "self_sqnorm")]
    tensors = arguments["similarity"], relations.positives, relations.self_index, None
    torch.library.opcheck(
        torch.ops.metrix_ext.pair_sums,
        (*tensors, True, pairs, True, flat, *optional, 0, pairs != "clean"),
    )


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", list(RHO))
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


def test_with_clean_is_of_mixed_sums() -> None:
    with pytest.raises(ValueError, match="with_clean: got True, expected False with pairs='clean'"):
        pair_sums(**make_problem("clean").arguments(), with_clean=True)


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_a_second_derivative_is_refused(pairs: str) -> None:
    arguments = make_problem(pairs, "nca").arguments(grad=True)
    sums = pair_sums(**arguments)[0]
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(sums[sums.isfinite()].sum(), arguments["similarity"], create_graph=True)
    with mx.use_backend("reference"):
        sums = pair_sums(**arguments)[0]
    (grad,) = torch.autograd.grad(sums[sums.isfinite()].sum(), arguments["similarity"], create_graph=True)
    grad.square().sum().backward()
    assert arguments["similarity"].grad.isfinite().all()


@pytest.mark.parametrize("pairs", ["clean", "pos-neg", "anc-neg"])
def test_compiles_into_one_graph(pairs: str) -> None:
    problem = make_problem(pairs)

    def step(similarity: Tensor) -> Tensor:
        arguments = {**problem.arguments(), "similarity": similarity}
        return torch.logaddexp(pair_sums(**arguments)[0], torch.zeros(())).sum()

    eager, compiled = (problem.floats["similarity"].clone().requires_grad_() for _ in range(2))
    step(eager).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(compiled).backward()
    assert_same(compiled.grad, eager.grad, 1e-12, "gradient")


@pytest.mark.parametrize("pairs", ["clean", *PAIR_SETS])
def test_same_bits_again_and_for_any_number_of_threads(pairs: str) -> None:
    # Large enough that several threads really share the work.
    CLASS_SIZES["large"] = tuple(1 + k % 5 for k in range(60))
    problem = make_problem(pairs, "exp", "large", dim=16)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 2, 5):
            torch.set_num_threads(count)
            results.append(evaluate(pair_sums, problem, torch.float32))
    finally:
        torch.set_num_threads(threads)
    for sums, _, grads in results[1:]:
        assert torch.equal(sums, results[0][0])
        assert all(torch.equal(grads[n], results[0][2][n]) for n in grads)


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
    check_against_reference(problem)
    check_against_reference(problem, torch.float32)


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


def test_every_gradient_element_is_written() -> None:
    """What the op allocates is not zero to begin with."""
    for pairs in ("clean", *PAIR_SETS):
        for masked in (False, True):
            problem = make_problem(pairs, "exp", "ragged", masked)
            with torch.random.fork_rng():
                torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
                try:
                    _, _, grads = evaluate(pair_sums, problem)
                finally:
                    torch.use_deterministic_algorithms(False)
            assert all(g.isfinite().all() for g in grads.values()), (pairs, masked)


def test_inputs_need_not_be_contiguous() -> None:
    problem = make_problem("pos-neg")
    expected = pair_sums(**problem.arguments())[0]
    arguments = problem.arguments()
    for name in ("similarity", "lam", "gram"):
        arguments[name] = arguments[name].T.contiguous().T
    assert torch.equal(pair_sums(**arguments)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    problem = make_problem("pos-neg")
    arguments = problem.arguments(dtype, grad=True)
    sums, _ = pair_sums(**arguments)
    assert sums.dtype == torch.float32
    widened = {n: t.detach().float() if isinstance(t, Tensor) else t for n, t in arguments.items()}
    assert torch.equal(sums.detach(), pair_sums(**widened)[0])
    sums[sums.isfinite()].sum().backward()
    assert arguments["similarity"].grad.dtype == dtype


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_every_instruction_set_gives_the_same_numbers(isa: str) -> None:
    """In a process of its own, since the choice is made once."""
    script = (
        "from tests.support.problems import make_problem\n"
        "from tests.ops.test_pair_sums import check_against_reference, test_gram_is_a_matrix_product\n"
        "from metrix_ext import native; from metrix_ext.terms.pair_sets import PAIR_SETS; import torch\n"
        "print(native.lib().instruction_set())\n"
        "for pairs in ('clean', *PAIR_SETS):\n"
        "    for rho in ('exp', 'linear'):\n"
        "        check_against_reference(make_problem(pairs, rho, 'wide'))\n"
        "        check_against_reference(make_problem(pairs, rho, 'wide', dim=32), torch.float32)\n"
        "for n, d in ((33, 70), (150, 133)):\n"
        "    for dtype in (torch.float32, torch.float64): test_gram_is_a_matrix_product(n, d, dtype)\n"
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
    arguments = make_problem("pos-neg").arguments()
    n = len(arguments["similarity"])
    for change, name in (
        ({"pairs": "neg-pos"}, "pairs"),
        ({"lam": None}, "lam"),
        ({"lam": torch.rand(n, n + 1)}, "lam"),
        ({"sqnorm": torch.rand(n + 1)}, "sqnorm"),
        ({"gram": torch.rand(n)}, "gram"),
        ({"self_similarity": torch.rand(n)}, "self_similarity"),
        ({"similarity": torch.rand(n)}, "similarity"),
    ):
        with pytest.raises(ValueError, match=name):
            pair_sums(**{**arguments, **change})
    with pytest.raises(TypeError, match="similarity"):
        pair_sums(**{**arguments, "similarity": torch.ones(n, n, dtype=torch.int64)})


def test_a_backend_that_cannot_run_says_why() -> None:
    with pytest.raises(ValueError, match="expected one of reference"):
        mx.use_backend("gpu").__enter__()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="'cuda' cannot run"):
            mx.use_backend("cuda").__enter__()


# ---- gram -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(0, 3), (1, 1), (2, 0), (3, 5), (7, 64), (33, 70), (150, 133), (300, 40)])
def test_gram_is_a_matrix_product(n: int, d: int, dtype: torch.dtype) -> None:
    x, grad = torch.randn(n, d, dtype=torch.float64), torch.randn(n, n, dtype=torch.float64)
    leaf = x.to(dtype).requires_grad_()
    products = gram(leaf)
    products.backward(grad.to(dtype))
    bound = 1e-13 if dtype == torch.float64 else 1e-6
    assert torch.equal(products, products.T)
    assert_same(products.detach(), x @ x.T, bound, "products")
    assert_same(leaf.grad, (grad + grad.T) @ x, bound, "gradient")


def test_gram_has_the_same_bits_for_any_number_of_threads_and_writes_every_element() -> None:
    x, grad = torch.randn(130, 90), torch.randn(130, 130)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
            leaf = x.clone().requires_grad_()
            products = gram(leaf)
            products.backward(grad.T)  # not contiguous
            results.append((products.detach(), leaf.grad))
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    for products, gradient in results:
        assert products.isfinite().all() and gradient.isfinite().all()
        assert torch.equal(products, results[0][0]) and torch.equal(gradient, results[0][1])


def test_gram_passes_not_finite_values_on_and_no_further() -> None:
    x = torch.randn(9, 20)
    x[4, 3] = math.nan
    touched = torch.zeros(9, 9, dtype=torch.bool)
    touched[4] = touched[:, 4] = True
    assert torch.equal(gram(x).isnan(), touched)


def test_gram_opcheck_and_gradcheck() -> None:
    x = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.metrix_ext.gram, (x,))
    assert torch.autograd.gradcheck(gram, x)


# ---- pair_lambda ----------------------------------------------------------------------------------------------


# Counter, key and first word of the answer: vectors that Random123 ships (kat_vectors).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), 0x6627E8D5),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), 0xD16CFE09),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], answer: int) -> None:
    i, j = torch.tensor([counter[0] | counter[2] << 32]), torch.tensor([counter[1] | counter[3] << 32])
    assert int(reference.philox((i, j), key[0] | key[1] << 32)) == answer
    assert philox4x32(counter, key)[0] == answer


@pytest.mark.parametrize("seed", [0, -1, 0x299F31D0A4093822])
def test_lambda_is_made_of_the_first_word_of_philox(seed: int) -> None:
    """Beta(1, 1) is uniform: its lambda is (word + 1/2) 2^-32."""
    rows = [0, 1, 7, 0x85A308D3, 0x0370734485A308D3]
    columns = [8, 0xFFFFFFFF, 2**32, 0x13198A2E243F6A88, 2**63 - 1]
    lam = pair_lambda(seed, torch.tensor(rows), torch.tensor(columns), 1.0, torch.float64)
    for r, c in itertools.product(range(len(rows)), range(len(columns))):
        low, high = sorted((rows[r], columns[c]))
        counter = tuple(value & 0xFFFFFFFF for value in (low, high, low >> 32, high >> 32))
        word = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))[0]
        of_low = lam[r, c] if rows[r] == low else 1 - lam[r, c]
        assert int(of_low * 2**32) == word


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 2.0, 7.5, 100.0])
def test_lambda_equals_the_reference(alpha: float) -> None:
    ids = torch.cat((torch.randperm(150), torch.tensor([2**31, 2**32 + 5, 2**40])))
    exact = reference.pair_lambda(-3, ids, ids, alpha)
    lam = pair_lambda(-3, ids, ids, alpha, torch.float64)
    assert (lam - exact).abs().max() < (1e-13 if alpha <= 2 else 4e-8)
    single = pair_lambda(-3, ids, ids, alpha)
    assert (single - exact).abs().max() <= 1e-7
    if alpha == 2:
        assert torch.equal(single, reference.pair_lambda(-3, ids, ids, alpha, torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lambda_does_not_depend_on_how_the_work_is_split(dtype: torch.dtype) -> None:
    ids = torch.randperm(200)
    whole = pair_lambda(7, ids, ids, 2.0, dtype)
    assert torch.equal(pair_lambda(torch.tensor(7), ids[30:95], ids[101:], 2.0, dtype), whole[30:95, 101:])
    assert torch.equal(whole + whole.T, torch.ones_like(whole))
    assert (whole.diagonal() == 0.5).all()


@pytest.mark.parametrize("alpha", [0.4, 2.0, 9.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    ids = torch.arange(600)
    lam = pair_lambda(11, ids, ids, alpha, torch.float64)[torch.ones(600, 600, dtype=torch.bool).triu(1)]
    quantiles = torch.tensor([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99], dtype=torch.float64)
    expected = torch.from_numpy(betaincinv(alpha, alpha, quantiles.numpy()))
    assert (lam.quantile(quantiles) - expected).abs().max() < 0.01
    other = pair_lambda(12, ids, ids, alpha, torch.float64)[torch.ones(600, 600, dtype=torch.bool).triu(1)]
    correlation = torch.corrcoef(torch.stack((lam, other)))[0, 1]
    assert correlation.abs() < 0.02


def test_lambda_opcheck_and_arguments() -> None:
    ids = torch.arange(5)
    torch.library.opcheck(torch.ops.metrix_ext.pair_lambda, (torch.tensor(1), ids, ids, 2.0, torch.float32))
    for bad, name in (
        ({"alpha": 0.0}, "alpha"),
        ({"rows": ids.float()}, "rows"),
        ({"columns": ids[None]}, "columns"),
        ({"seed": 2**63}, "seed"),
        ({"seed": torch.rand(1)}, "seed"),
    ):
        with pytest.raises(ValueError, match=name):
            pair_lambda(**{"seed": 1, "rows": ids, "columns": ids, **bad})
    with pytest.raises(TypeError, match="dtype"):
        pair_lambda(1, ids, ids, dtype=torch.float16)


def test_quantile_polynomial_is_as_good_as_it_says() -> None:
    u = torch.logspace(-9.6, math.log10(0.5), 4000, dtype=torch.float64).numpy()
    for alpha, bound in ((0.05, 1e-14), (2.0, 2e-15), (8.0, 3e-11), (1000.0, 4e-8)):
        inverse_alpha, slope, offset, *coefficients = quantile_polynomial(alpha)
        v = (2 * u) ** inverse_alpha
        t = slope * v + offset
        value = v * sum(c * t**k for k, c in enumerate(coefficients))
        assert abs(value - betaincinv(alpha, alpha, u)).max() < bound


@pytest.mark.parametrize("pairs", ["anc-neg", "anc-pos"])
def test_one_tensor_may_be_several_arguments(pairs: str) -> None:
    """Of anchors that are mixed as they are, s(a, a) is the squared norm: callers have one tensor for both."""
    problem = make_problem(pairs, proxies=True)
    shared = problem.arguments()
    shared["self_sqnorm"] = shared["self_similarity"]
    copied = {**shared, "self_sqnorm": shared["self_similarity"].clone()}
    assert torch.equal(pair_sums(**shared)[0], pair_sums(**copied)[0])
