"""The Triton kernels against the reference; test_triton.py runs this file where they can run: on a GPU, or in Triton's
interpreter, which has to be chosen before Triton is imported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.mixing.factorised import factorised_sums
from metrix_ext.ops import pair_lambda, pair_sums
from metrix_ext.ops.triton import pair_sums as launches
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.pair_sets import PAIR_SETS
from metrix_ext.terms.relations import Relations
from tests.support.problems import CLASS_SIZES, GIVEN, check_diagonals, check_with_clean, make_problem

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RHO = {
    "exponential": (Rho(-18.0, 18 * 0.77), Rho(75.0, -75 * 0.77)),
    "linear": (Rho(-1.0, exponential=False), Rho(1.0, -0.2, exponential=False, floor=0.0)),
}
LAYOUTS = {
    "none": [],
    "one": [0],
    "two alike": [0, 0],
    "two unlike": [0, 1],
    "one class": [0] * 9,
    "singletons": list(range(7)),
    "ragged": [0, 0, 0, 1, 2, 2, 2, 2],
    "class above a tile": [0, 1, 1, *[2] * 10],
}
SETS = [("clean", False), *itertools.product(PAIR_SETS, (False, True))]

every_set = pytest.mark.parametrize(("pairs", "renormalize"), SETS)
each_set_renormalized = pytest.mark.parametrize(("pairs", "renormalize"), [s for s in SETS if s[1] or s[0] == "clean"])
every_rho = pytest.mark.parametrize("rho", RHO)


@pytest.fixture(autouse=True)
def triton_backend() -> Iterator[None]:
    with mx.use_backend("triton"):
        yield


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every element that a kernel does not write is NaN."""
    empty = torch.empty

    def poisoned(*args: object, **kwargs: object) -> Tensor:
        made: Tensor = empty(*args, **kwargs)
        return made.fill_(math.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", poisoned)


@dataclass
class Problem:
    """Arguments of pair_sums in float64 on the CPU."""

    similarity: Tensor
    relations: Relations
    rho: tuple[Rho, Rho]
    pairs: str
    optional: list[Tensor | None] = field(default_factory=lambda: [None] * 5)
    first_row: int = 0

    def run(self, backend: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
        """sums, nonzero and the gradients of a fixed weighting of the defined sums."""
        device = DEVICE if backend == "triton" else torch.device("cpu")
        leaves = [
            None if t is None else t.to(device, dtype).requires_grad_(index != 1)
            for index, t in enumerate([self.similarity, *self.optional])
        ]
        relations = Relations(
            self.relations.positives.to(device),
            self.relations.self_index.to(device),
            None if self.relations.mask is None else self.relations.mask.to(device),
        )
        with mx.use_backend(backend):
            sums, nonzero = pair_sums(leaves[0], relations, self.rho, self.pairs, *leaves[1:], first_row=self.first_row)
            weight = torch.linspace(0.5, 1.5, sums.numel(), dtype=dtype, device=device).reshape(sums.shape)
            total = (sums.masked_fill(sums == -math.inf, 0) * weight).sum()
            inputs = [t for t in leaves if t is not None and t.requires_grad]
            gradients = torch.autograd.grad(total, inputs, allow_unused=True)
        gradients = [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, inputs, strict=True)]
        return sums.detach().cpu(), nonzero.cpu(), [g.cpu() for g in gradients]


def problem(
    labels: list[int],
    rho: str,
    pairs: str,
    renormalize: bool,
    anchors: int | None = None,
    masked: bool = False,
    one_lambda: bool = False,
    zeros: int = 0,
    seed: int = 0,
) -> Problem:
    """Random unit embeddings; with a number of anchors those are no examples, one per class."""
    torch.manual_seed(seed)
    n = len(labels)
    examples = F.normalize(torch.randn(n, 5, dtype=torch.float64))
    examples[:zeros] = 0
    sorted_labels = torch.tensor(labels, dtype=torch.int64)
    if anchors is None:
        sources, own = examples, torch.arange(n)
        relations = Relations.from_labels(sorted_labels, sorted_labels, own)
    else:
        sources, own = F.normalize(torch.randn(anchors, 5, dtype=torch.float64)), torch.full((anchors,), -1)
        relations = Relations.from_labels(torch.arange(anchors), sorted_labels, own)
    if masked:
        relations = relations.keep_pairs(torch.randint(-1, 2, (len(sources), n), dtype=torch.int8))
    made = Problem(sources @ examples.T, relations, RHO[rho], pairs)
    if pairs != "clean":
        rows = sources if pairs.startswith("anc-") else examples
        made.optional[0] = torch.rand(1 if one_lambda else (len(rows), n), dtype=torch.float64)
        if renormalize:
            made.optional[1] = rows @ examples.T
            made.optional[2] = examples.square().sum(1) if pairs.startswith("anc-") else None
        if pairs.startswith("anc-"):
            made.optional[3] = sources.square().sum(1) * 0.9
            made.optional[4] = sources.square().sum(1) if renormalize else None
    return made


def distance(given: Tensor, truth: Tensor) -> float:
    """Relative l2 error of what is finite in the truth; the rest has to agree exactly."""
    finite = truth.isfinite()
    assert torch.equal(given.isfinite(), finite)
    assert torch.equal(given[~finite].double(), truth[~finite])
    given, truth = given.double()[finite], truth[finite]
    return float((given - truth).norm() / truth.norm().clamp_min(1e-30))


def assert_right(made: Problem, dtype: torch.dtype = torch.float64) -> None:
    """float64: the reference. float32: no further from it than the reference in float32, beside a small floor."""
    truth = made.run("reference", torch.float64)
    sums, nonzero, gradients = made.run("triton", dtype)
    naive_sums, _, naive = truth if dtype == torch.float64 else made.run("reference", dtype)
    floor = 1e-12 if dtype == torch.float64 else 2e-6
    assert sums.dtype == dtype
    assert distance(sums, truth[0]) <= 2 * distance(naive_sums, truth[0]) + floor
    if not made.rho[0].exponential:
        assert torch.equal(nonzero.double(), truth[1])
    for given, plain, right in zip(gradients, naive, truth[2], strict=True):
        if right.norm() < 1e-14:  # what cancels to nothing has no relative error
            assert given.norm() < floor
        else:
            assert distance(given, right) <= 2 * distance(plain, right) + floor


@every_rho
@every_set
@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_values_and_gradients(pairs: str, renormalize: bool, rho: str, masked: bool) -> None:
    assert_right(problem(LAYOUTS["ragged"], rho, pairs, renormalize, masked=masked))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "ragged"])
@every_set
def test_every_layout(pairs: str, renormalize: bool, layout: str) -> None:
    assert_right(problem(LAYOUTS[layout], "exponential", pairs, renormalize))


@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("window", [(0, 3), (3, 8), (3, 4), (4, 4)])
@pytest.mark.parametrize(
    ("renormalize", "one_lambda"), [(False, False), (True, False), pytest.param(True, True, marks=pytest.mark.slow)]
)
def test_windows(
    pairs: str, window: tuple[int, int], renormalize: bool, one_lambda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The anchors whose positives are among some examples, with the rows of lambda and gram of these alone."""
    monkeypatch.setattr(launches, "PRODUCT_TILE", (2, 4))
    made, rows = problem(LAYOUTS["ragged"], "exponential", pairs, renormalize, one_lambda=one_lambda), slice(*window)
    lam, gram, *_ = made.optional
    norms = None if gram is None else gram.diagonal().clone()
    made.optional[:3] = lam if one_lambda else lam[rows], None if gram is None else gram[rows], norms
    assert_right(
        replace(made, similarity=made.similarity[rows], relations=made.relations.of_rows(rows), first_row=window[0])
    )


@pytest.mark.parametrize(("layout", "set_number"), list(zip(LAYOUTS, (0, 1, 2, 4, 6, 8, 10, 2), strict=True)))
def test_layouts(layout: str, set_number: int) -> None:
    assert_right(problem(LAYOUTS[layout], "exponential", *SETS[set_number], masked=layout == "two unlike"))


@pytest.mark.parametrize("rho", ["exponential", pytest.param("linear", marks=pytest.mark.slow)])
@each_set_renormalized
def test_float32(pairs: str, renormalize: bool, rho: str) -> None:
    assert_right(problem(LAYOUTS["ragged"], rho, pairs, renormalize), torch.float32)


@each_set_renormalized
def test_one_lambda_and_zero_vectors(pairs: str, renormalize: bool) -> None:
    assert_right(problem(LAYOUTS["ragged"], "exponential", pairs, renormalize, one_lambda=True, zeros=2))


@each_set_renormalized
@pytest.mark.parametrize("programs", [1, pytest.param(1024, marks=pytest.mark.slow)])
def test_more_columns_than_a_tile(
    pairs: str, renormalize: bool, programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few anchors that are no examples, several tiles in one slice and in many."""
    monkeypatch.setattr(launches, "PROGRAMS", programs)
    monkeypatch.setattr(launches, "ANCHORS_PER_BLOCK", 2)
    monkeypatch.setattr(launches, "PRODUCT_TILE", (4, 8))
    monkeypatch.setattr(launches, "ROW_TILE", (2, 4))
    labels = sorted(min(k % 7, 3) for k in range(19))
    assert_right(problem(labels, "exponential", pairs, renormalize, anchors=3))


@pytest.mark.parametrize(("pairs", "given"), GIVEN)
def test_diagonals(pairs: str, given: tuple[str, ...]) -> None:
    check_diagonals(pairs, "nca", given, device=DEVICE)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("rho", ["exp", pytest.param("linear", marks=pytest.mark.slow)])
def test_with_clean(pairs: str, rho: str) -> None:
    CLASS_SIZES["few"] = 2, 1, 3
    check_with_clean(make_problem(pairs, rho, "few"), device=DEVICE)


def test_real_tiles() -> None:
    assert_right(problem([0] * 10 + [1] * 1030, "exponential", "anc-neg", True, anchors=2))
    assert_right(problem([0] * 10 + [1] * 140, "exponential", "pos-neg", True, anchors=2), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    made = problem(LAYOUTS["ragged"], "exponential", "pos-neg", True)
    rounded = made.similarity.to(DEVICE, dtype)
    args = (made.relations, made.rho, "clean")
    relations = replace(made.relations, positives=made.relations.positives.to(DEVICE))
    relations = replace(relations, self_index=relations.self_index.to(DEVICE))
    sums, _ = pair_sums(rounded, relations, *args[1:])
    expected, _ = reference.pair_sums(rounded.double().cpu(), *args)
    torch.testing.assert_close(sums.cpu(), expected.float())


def test_gradients_at_huge_logarithms() -> None:
    """Half a unit in the last place of a logarithm of 10^6 would be a factor of 1.03."""
    made = problem(LAYOUTS["ragged"], "exponential", "pos-neg", False)
    made.similarity *= 2.0**14
    made.optional[0] = torch.full((1,), 0.5, dtype=torch.float64)
    _, _, (truth,) = made.run("reference", torch.float64)
    _, _, (gradient,) = made.run("triton", torch.float32)
    assert distance(gradient, truth) < 1e-6


@each_set_renormalized
def test_non_contiguous(pairs: str, renormalize: bool) -> None:
    made = problem(LAYOUTS["ragged"], "exponential", pairs, renormalize)
    n = len(LAYOUTS["ragged"])
    turned = replace(made, similarity=made.similarity.T.contiguous().T)
    turned.optional = [
        None if t is None else t.T.contiguous().T if t.dim() == 2 else t.repeat_interleave(2)[::2]
        for t in made.optional
    ]
    assert not turned.similarity.is_contiguous() or n < 2
    for given, right in zip(turned.run("triton", torch.float64), made.run("triton", torch.float64), strict=True):
        assert all(map(torch.equal, given, right))


@each_set_renormalized
@pytest.mark.parametrize("value", [pytest.param(math.nan, marks=pytest.mark.slow), -math.inf])
def test_not_finite(pairs: str, renormalize: bool, value: float) -> None:
    """Comes out as NaN in the sums that it is in, and in no others."""
    made = problem(LAYOUTS["ragged"], "exponential", pairs, renormalize)
    before, _, _ = made.run("triton", torch.float32)
    made.similarity[7, 7] = value  # the anchor itself: in no sum
    sums, _, _ = made.run("triton", torch.float32)
    assert torch.equal(sums, before)
    column = 5 if pairs in ("pos-pos", "anc-pos") else 1
    made.similarity[7, column] = value
    sums, _, gradients = made.run("triton", torch.float32)
    assert sums[7].isnan().any()
    others = torch.arange(len(sums)) != 7
    assert torch.equal(sums[others], before[others])
    assert gradients[0][7].isnan().any()


@each_set_renormalized
def test_empty_sets_ignore_the_upstream_gradient(pairs: str, renormalize: bool) -> None:
    made = problem(LAYOUTS["singletons"], "exponential", pairs, renormalize)
    args = [t if t is None else t.to(DEVICE) for t in (made.similarity, *made.optional)]
    made.similarity = args[0].requires_grad_()
    positives, own = made.relations.positives.to(DEVICE), made.relations.self_index.to(DEVICE)
    sums, _ = pair_sums(made.similarity, Relations(positives, own), made.rho, pairs, *args[1:])
    sums.backward(torch.full_like(sums, math.nan).masked_fill(sums != -math.inf, 0))
    assert made.similarity.grad.abs().max() == 0


@pytest.mark.parametrize(("pairs", "renormalize"), [("pos-neg", True), ("anc-neg", True)])
def test_bitwise_repeatable(pairs: str, renormalize: bool) -> None:
    made = problem(LAYOUTS["ragged"], "exponential", pairs, renormalize)
    for given, again in zip(made.run("triton", torch.float32), made.run("triton", torch.float32), strict=True):
        assert all(map(torch.equal, given, again))


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_factorised(lam: float) -> None:
    made = problem(LAYOUTS["ragged"], "exponential", "pos-neg", False, one_lambda=True)
    made.optional[0] = torch.tensor([lam], dtype=torch.float64)
    expected, _, _ = made.run("reference", torch.float64)
    positives, own = made.relations.positives.to(DEVICE), made.relations.self_index.to(DEVICE)
    sums, _ = factorised_sums(
        made.similarity.to(DEVICE), Relations(positives, own), made.rho, made.optional[0].to(DEVICE)
    )
    torch.testing.assert_close(sums.cpu(), expected)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 2.0, 8.0, 50.0])
@pytest.mark.parametrize("seed", [0, 123456789012345, -1])
def test_lambda_is_that_of_the_cpu(alpha: float, seed: int) -> None:
    rows = torch.tensor([0, 3, 5, 2**31 - 1, 2**32 + 3, 2**40 + 7])
    columns = torch.cat((torch.arange(300), rows))
    in_order = rows[:, None] <= columns
    for dtype, tolerance in ((torch.float32, 2.0**-23), (torch.float64, 1e-12)):
        with mx.use_backend("cpu"):
            expected = pair_lambda(seed, rows, columns, alpha, dtype)
        given = pair_lambda(seed, rows.to(DEVICE), columns.to(DEVICE), alpha, dtype).cpu()
        torch.testing.assert_close(given[in_order], expected[in_order], rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lambda_of_both_orders(dtype: torch.dtype) -> None:
    index = torch.arange(20, device=DEVICE)
    lam = pair_lambda(7, index, index, 2.0, dtype)
    lower = torch.ones_like(lam).tril(-1).bool()
    assert torch.equal(lam[lower], 1 - lam.T[lower])
    assert (lam.diagonal() == 0.5).all()


def test_lambda_of_nothing() -> None:
    index = torch.arange(3, device=DEVICE)
    assert pair_lambda(7, index[:0], index).shape == (0, 3)
    assert pair_lambda(7, index, index[:0]).shape == (3, 0)
