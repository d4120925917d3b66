"""The mixed losses, Eq. (8)-(10), against the loop oracle."""

import itertools
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import metrix_ext as mx
from tests.support import loop_oracle
from tests.support.loop_oracle import (
    CASES,
    DIM,
    NUM_CLASSES,
    OTHER_PARAMETERS,
    PAIR_SETS,
    Case,
    Tensors,
    assert_close,
    assert_no_worse,
    assert_zero_gradient,
    batch,
    largest_exponent,
    leaf,
    relative_error,
    some_triplets,
)

Build = Callable[..., nn.Module]
Encode = Callable[[Tensor], Tensor]
PAIR_CASES = {name: case for name, case in CASES.items() if not case.has_proxies}
PROXY_CASES = {name: case for name, case in CASES.items() if case.has_proxies}

default_case = pytest.mark.parametrize("name", CASES)
SMALL_LAYOUTS = ["none", "one", "two alike", "two unlike", "three", "one class", "singletons"]
every_set = pytest.mark.parametrize("pairs", PAIR_SETS)


def seed_of(*words: object) -> int:
    """A seed that differs from test to test and stays the same from run to run."""
    return zlib.crc32(repr(words).encode())


def lambda_shape(case: Case, pairs: str, n: int) -> tuple[int, int]:
    """Rows: what the first of a pair is taken from; columns: the second."""
    anchor_first = pairs.startswith("anc-")
    if case.loss.name == "pa":
        return (NUM_CLASSES if anchor_first else n, n)
    if case.has_proxies:
        return (n if anchor_first else NUM_CLASSES, NUM_CLASSES)
    return (n, n)


def random_lambda(shape: tuple[int, int], seed: int) -> Tensor:
    """Any weights, not symmetric: a tensor is taken as it is."""
    generator = torch.Generator().manual_seed(seed)
    return 0.02 + 0.96 * torch.rand(shape, generator=generator, dtype=torch.float64)


def metrix(loss: nn.Module, **arguments: object) -> nn.Module:
    """With one set of pairs: the default two are not possible with every mix and loss (TestRefused)."""
    return mx.Metrix(loss, **{"mix": "embed", "pairs": "pos-neg", **arguments})


def gradients(value: Tensor, inputs: list[Tensor]) -> Tensors:
    return [value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)]


def mixed_and_gradients(
    loss: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: object,
    seed: int | None = None,
    **arguments: object,
) -> Tensors:
    x = leaf(x)
    value = metrix(loss, **arguments).mixed_loss(x, labels, pairs=pairs, lam=lam, seed=seed)
    assert value.shape == ()
    return gradients(value, [x, *loss.parameters()])


def expected(
    case: Case,
    loss: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    **arguments: object,
) -> Tensors:
    x = leaf(x.to(case.loss.dtype))
    proxies = [leaf(p.to(case.loss.dtype)) for p in loss.parameters()]
    value = loop_oracle.mixed_loss(case.loss, x, labels, pairs, lam, *proxies, **arguments)  # type: ignore[arg-type]
    return gradients(value, [x, *proxies])


BOTH_LAYOUTS = ("ms", "contrastive", "lifted", "nca", "pa", "proxynca++")


def grid() -> list[tuple[str, str, str, bool, str]]:
    """Loss x pair set x lambda x renormalising x layout."""
    cases = []
    kinds = ("float", "tensor", "pair")
    for name, pairs, lam, renormalize in itertools.product(CASES, PAIR_SETS, kinds, (False, True)):
        rows, columns = lambda_shape(CASES[name], pairs, -1)
        if lam == "pair" and rows != columns:
            continue  # a proxy and an embedding: see TestSampledLambda
        layouts = ("ragged", "pairs") if name in BOTH_LAYOUTS else ("ragged",)
        cases += [(name, pairs, lam, renormalize, layout) for layout in layouts]
    return cases


GRID = grid()


class TestGrid:
    def test_is_large_enough(self) -> None:
        assert len(GRID) >= 275

    @pytest.mark.parametrize(("name", "pairs", "lam", "renormalize", "layout"), GRID)
    def test_values_and_gradients(
        self, build: Build, name: str, pairs: str, lam: str, renormalize: bool, layout: str
    ) -> None:
        case = CASES[name]
        seed = seed_of(name, pairs, lam, layout)
        loss = build(case, seed)
        x, labels = batch(layout, seed)
        shape = lambda_shape(case, pairs, len(labels))
        given: object
        taken: float | Tensor
        if lam == "float":
            given = taken = 0.37
        elif lam == "tensor":
            given = taken = random_lambda(shape, seed)
        else:
            given, taken = None, loop_oracle.pair_lambda(seed, range(shape[0]), range(shape[1]), 2.0)
        got = mixed_and_gradients(loss, x, labels, pairs, given, seed, renormalize=renormalize)
        assert_close(got, expected(case, loss, x, labels, pairs, taken, renormalize=renormalize), rtol=1e-8)


class TestEmbed:
    @default_case
    @every_set
    @pytest.mark.parametrize("layout", SMALL_LAYOUTS)
    def test_small_batches(self, backend: str, build: Build, name: str, pairs: str, layout: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch(layout)
        lam = random_lambda(lambda_shape(case, pairs, len(labels)), 5)
        for renormalize in (False, True):
            got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=renormalize)
            assert_close(got, expected(case, loss, x, labels, pairs, lam, renormalize=renormalize), rtol=1e-8)

    @pytest.mark.parametrize("name", OTHER_PARAMETERS)
    @every_set
    def test_other_parameters(self, backend: str, build: Build, name: str, pairs: str) -> None:
        case, loss = OTHER_PARAMETERS[name], build(OTHER_PARAMETERS[name])
        x, labels = batch("ragged", 11)
        lam = random_lambda(lambda_shape(case, pairs, len(labels)), 5)
        got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=True)
        assert_close(got, expected(case, loss, x, labels, pairs, lam, renormalize=True), rtol=1e-8)

    @pytest.mark.parametrize("name", ["ms", "contrastive", "pa", "proxynca"])
    def test_sizes_off_every_vector_width(self, backend: str, build: Build, name: str) -> None:
        """Against the project's own literal version, which test_reference_function ties to the loops."""
        n = 33
        loss = build(CASES[name], 2, embedding_size=19) if CASES[name].has_proxies else build(CASES[name])
        generator = torch.Generator().manual_seed(n)
        labels = torch.randint(0, NUM_CLASSES, (n,), generator=generator)
        x = torch.randn(n, 19, generator=generator, dtype=torch.float64)
        for pairs in PAIR_SETS:
            lam = random_lambda(lambda_shape(CASES[name], pairs, n), n)
            got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=True)
            inp = leaf(x)
            want = mx.reference.mixed_loss(loss, inp, labels, pairs, lam, renormalize=True)
            assert_close(got, gradients(want, [inp, *loss.parameters()]), rtol=1e-9)

    @pytest.mark.parametrize("name", ["ms", "contrastive-mean", "nca", "proxynca++"])
    @pytest.mark.parametrize("hard", [None, 7])
    def test_a_larger_batch(self, build: Build, name: str, hard: int | None) -> None:
        """Many blocks of whatever size; the default backend against the literal version."""
        case, loss = CASES[name], build(CASES[name])
        generator = torch.Generator().manual_seed(1)
        labels = torch.randint(0, NUM_CLASSES, (75,), generator=generator)
        x = torch.randn(75, DIM, generator=generator, dtype=torch.float64)
        for pairs in ("pos-neg", "anc-neg", "neg-neg"):
            lam = random_lambda(lambda_shape(case, pairs, 75), 1)
            got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=True, hard_negatives=hard)
            inp = leaf(x)
            want = mx.reference.mixed_loss(loss, inp, labels, pairs, lam, renormalize=True, hard_negatives=hard)
            assert_close(got, gradients(want, [inp, *loss.parameters()]), rtol=1e-9)

    @pytest.mark.parametrize("name", ["ms", "contrastive-nonzero"])
    @every_set
    def test_one_large_class(self, build: Build, name: str, pairs: str) -> None:
        """Many anchors with the same positives and negatives, which kernels may take together."""
        loss = build(CASES[name])
        generator = torch.Generator().manual_seed(1)
        labels = torch.tensor([3] * 70 + [4] * 3 + [0] * 2)[torch.randperm(75, generator=generator)]
        x = torch.randn(75, DIM, generator=generator, dtype=torch.float64)
        lam = random_lambda((75, 75), 1)
        got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=True)
        inp = leaf(x)
        want = mx.reference.mixed_loss(loss, inp, labels, pairs, lam, renormalize=True)
        assert_close(got, gradients(want, [inp]), rtol=1e-9)

    @default_case
    @every_set
    def test_reference_function(self, build: Build, name: str, pairs: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        lam = random_lambda(lambda_shape(case, pairs, len(labels)), 5)
        for renormalize, hard in ((False, None), (True, 2)):
            options = {"renormalize": renormalize, "hard_negatives": hard}
            got = mx.reference.mixed_loss(loss, x, labels, pairs, lam, **options)
            want = expected(case, loss, x, labels, pairs, lam, **options)
            assert_close([got.detach()], want[:1], rtol=1e-9)

    @pytest.mark.parametrize("name", ["ms", "lifted", "nca", "contrastive", "pa", "proxynca++"])
    @pytest.mark.parametrize("lam", [0.0, 1.0])
    @pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
    def test_lambda_at_its_ends(self, backend: str, build: Build, name: str, pairs: str, lam: float) -> None:
        """One of the two sums has only terms of weight zero: log 0, or nothing."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        got = mixed_and_gradients(loss, x, labels, pairs, lam)
        assert_close(got, expected(case, loss, x, labels, pairs, lam), rtol=1e-8)

    @default_case
    @pytest.mark.parametrize("renormalize", [False, True])
    def test_without_normalising(self, backend: str, build: Build, name: str, renormalize: bool) -> None:
        case = CASES[name]
        case = case._replace(loss=replace(case.loss, normalize=False))
        loss = build(case, normalize=False)
        x, labels = batch("ragged")
        for pairs in ("pos-neg", "anc-neg"):
            lam = random_lambda(lambda_shape(case, pairs, len(labels)), 5)
            got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=renormalize)
            assert_close(got, expected(case, loss, x, labels, pairs, lam, renormalize=renormalize), rtol=1e-8)

    @default_case
    def test_float32_is_as_good_as_the_literal_formula(self, backend: str, build: Build, name: str) -> None:
        case, loss = CASES[name], build(CASES[name], dtype=torch.float32)
        naive = case._replace(loss=replace(case.loss, dtype=torch.float32))
        count = 3 if case.has_proxies else 2
        worst, allowed = [0.0] * count, [0.0] * count
        for seed in range(3):
            x, labels = batch("ragged", seed)
            x = x.float()
            lam = random_lambda(lambda_shape(case, "pos-neg", len(labels)), seed).float()
            options = {"renormalize": True}
            truth = expected(case, loss, x.double(), labels, "pos-neg", lam, **options)
            literal = expected(naive, loss, x, labels, "pos-neg", lam, **options)
            got = mixed_and_gradients(loss, x, labels, "pos-neg", lam, **options)
            for k, (g, n, t) in enumerate(zip(got, literal, truth, strict=True)):
                assert g.dtype == torch.float32
                worst[k] = max(worst[k], relative_error(g, t))
                allowed[k] = max(allowed[k], relative_error(n, t))
        assert all(w <= a + 2e-6 for w, a in zip(worst, allowed, strict=True)), (worst, allowed)

    @default_case
    def test_gradcheck(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name])
        x, labels = batch("pairs")
        lam = random_lambda(lambda_shape(CASES[name], "pos-neg", len(labels)), 5)
        criterion = metrix(loss, renormalize=True)
        assert torch.autograd.gradcheck(lambda x: criterion.mixed_loss(x, labels, "pos-neg", lam), leaf(x))

    @default_case
    def test_huge_similarities(self, backend: str, build: Build, name: str) -> None:
        case = CASES[name]
        case = case._replace(loss=replace(case.loss, normalize=False))
        naive = case._replace(loss=replace(case.loss, dtype=torch.float32))
        x, labels = batch("ragged")
        x = (100 * x).float()
        loss = build(case, normalize=False, dtype=torch.float32)
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.mul_(100)
        lam = random_lambda(lambda_shape(case, "pos-neg", len(labels)), 5).float()
        truth = expected(case, loss, x.double(), labels, "pos-neg", lam)
        literal = expected(naive, loss, x, labels, "pos-neg", lam)
        got = mixed_and_gradients(loss, x, labels, "pos-neg", lam)
        exponent = largest_exponent(case.loss, x)
        assert_no_worse(got[:1], literal[:1], truth[:1], 4 * torch.finfo(torch.float32).eps, exponent)
        # Rounding a similarity moves its exponent by eps * exponent, and the share of its term by a part of that.
        floor = 1e-5 + 0.02 * torch.finfo(torch.float32).eps * exponent
        assert_no_worse(got[1:], literal[1:], truth[1:], floor, 1.0)

    @default_case
    @every_set
    def test_nan(self, backend: str, build: Build, name: str, pairs: str) -> None:
        """One NaN must reach the loss wherever the pair set has anything to mix with it."""
        loss = build(CASES[name])
        x, labels = batch("ragged")
        lam = random_lambda(lambda_shape(CASES[name], pairs, len(labels)), 5)
        finite = metrix(loss).mixed_loss(x, labels, pairs=pairs, lam=lam)
        x[2, 0] = float("nan")
        value = metrix(loss).mixed_loss(x, labels, pairs=pairs, lam=lam)
        assert value.isnan() or (finite == 0.0 and value == 0.0)

    @default_case
    def test_bitwise_repeatable(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name], dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(40, DIM, generator=generator)
        labels = torch.randint(0, NUM_CLASSES, (40,), generator=generator)
        first = mixed_and_gradients(loss, x, labels, "pos-neg", 0.4, renormalize=True)
        for _ in range(3):
            again = mixed_and_gradients(loss, x, labels, "pos-neg", 0.4, renormalize=True)
            for a, b in zip(first, again, strict=True):
                assert torch.equal(a, b)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("name", ["ms", "contrastive", "pa", "proxynca++"])
    def test_half_precision_input(self, backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
        case, loss = CASES[name], build(CASES[name], dtype=torch.float32)
        x, labels = batch("ragged")
        x = x.to(dtype)
        lam = random_lambda(lambda_shape(case, "pos-neg", len(labels)), 5).float()
        got = mixed_and_gradients(loss, x, labels, "pos-neg", lam, renormalize=True)
        want = expected(case, loss, x.double(), labels, "pos-neg", lam, renormalize=True)
        assert relative_error(got[0], want[0]) < 2e-5
        assert got[1].dtype == dtype
        assert relative_error(got[1], want[1]) < 2 * torch.finfo(dtype).eps

    def test_compiles_as_one_graph(self, backend: str, build: Build) -> None:
        torch.compiler.reset()
        criterion = metrix(build(CASES["ms"]), renormalize=True)
        x, labels = batch("ragged")
        lam = random_lambda((len(labels), len(labels)), 5)

        def mixed(x: Tensor) -> Tensor:
            return criterion.mixed_loss(x, labels, pairs="pos-neg", lam=lam)

        x1, x2 = leaf(x), leaf(x)
        got = gradients(torch.compile(mixed, fullgraph=True, backend="aot_eager")(x1), [x1])
        assert_close(got, gradients(mixed(x2), [x2]), rtol=1e-12)

    def test_mixed_examples_are_linear_in_lambda(self, backend: str, build: Build) -> None:
        """By hand, one anchor, one positive, one negative: Eq. (13) written out."""
        x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
        labels = torch.tensor([0, 0, 1])
        criterion = metrix(build(CASES["contrastive"], margin=0.0))
        lam = 0.25
        s_first = 0.25 * 0.6 + 0.75 * 0.8
        s_second = 0.25 * 0.6 + 0.75 * (0.6 * 0.8 - 0.8 * 0.6)
        want = sum(-lam * s + (1 - lam) * max(s, 0.0) for s in (s_first, s_second)) / 3
        got = criterion.mixed_loss(x, labels, pairs="pos-neg", lam=lam)
        assert math.isclose(got.item(), want, rel_tol=1e-12)

    @pytest.mark.parametrize("name", PAIR_CASES)
    @every_set
    def test_mined_pairs(self, backend: str, build: Build, name: str, pairs: str) -> None:
        """The pairs of a miner restrict what is mixed as they restrict the clean loss."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        lam = random_lambda((len(labels), len(labels)), 5)
        mined = some_triplets(labels)
        for renormalize in (False, True):
            inp = leaf(x)
            value = metrix(loss, renormalize=renormalize).mixed_loss(
                inp, labels, pairs=pairs, lam=lam, indices_tuple=mined
            )
            want = expected(case, loss, x, labels, pairs, lam, renormalize=renormalize, indices_tuple=mined)
            assert_close(gradients(value, [inp]), want, rtol=1e-8)


class TestHardNegatives:
    @default_case
    @pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg", "neg-neg"])
    @pytest.mark.parametrize("k", [1, 2, 100])
    def test_the_k_most_similar(self, backend: str, build: Build, name: str, pairs: str, k: int) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged", 4)
        lam = random_lambda(lambda_shape(case, pairs, len(labels)), 5)
        for renormalize in (False, True):
            options = {"hard_negatives": k, "renormalize": renormalize}
            got = mixed_and_gradients(loss, x, labels, pairs, lam, **options)
            assert_close(got, expected(case, loss, x, labels, pairs, lam, **options), rtol=1e-8)

    @pytest.mark.parametrize("k", [1, 2, 3])
    @pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
    def test_ties_go_to_the_lower_index(self, backend: str, pairs: str, k: int) -> None:
        """Small whole numbers: the similarities tie exactly. Different lambdas tell the tied ones apart.

        The higher the index the lower the class, so that an order by class gives itself away.
        """
        case = CASES["ms"]._replace(loss=replace(CASES["ms"].loss, normalize=False, beta=2.0, gamma=2.0))
        loss = mx.losses.MultiSimilarityLoss(beta=2.0, gamma=2.0, normalize=False)
        x = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], dtype=torch.float64)
        labels = torch.tensor([3, 3, 2, 1, 2, 1, 0])
        lam = random_lambda((7, 7), 1)
        got = mixed_and_gradients(loss, x, labels, pairs, lam, hard_negatives=k)
        assert_close(got, expected(case, loss, x, labels, pairs, lam, hard_negatives=k), rtol=1e-9)

    def test_all_is_all(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        by_default, every = (
            metrix(loss, hard_negatives=k).mixed_loss(x, labels, pairs="pos-neg", lam=0.3) for k in (None, "all")
        )
        assert torch.equal(by_default, every)

    def test_do_not_touch_the_clean_loss(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        criterion = metrix(loss, hard_negatives=1, pairs="pos-neg", lam=0.3, strength=0.0)
        assert_close([criterion(x, labels)], [loss(x, labels)], rtol=1e-13)


class TestSampledLambda:
    def test_oracle_against_published_vectors(self) -> None:
        """The known answers that Random123 ships for Philox-4x32-10."""

        def words(text: str) -> tuple[int, ...]:
            return tuple(int(word, 16) for word in text.split())

        known = [
            ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
            ("ffffffff " * 4, "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
            (
                "243f6a88 85a308d3 13198a2e 03707344",
                "a4093822 299f31d0",
                "d16cfe09 94fdcceb 5001e420 24126ea1",
            ),
        ]
        for counter, key, answer in known:
            assert loop_oracle.philox4x32(words(counter), words(key)) == words(answer)

    @pytest.mark.parametrize("alpha", [0.4, 1.0, 2.0, 8.0])
    @pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**62 + 12345])
    def test_reference(self, alpha: float, seed: int) -> None:
        rows = torch.tensor([0, 1, 5, 1000, 2**31, 2**32, 2**32 + 1, 2**40 + 7])
        cols = torch.tensor([1, 0, 5, 2**32 + 1, 7])
        want = loop_oracle.pair_lambda(seed, rows.tolist(), cols.tolist(), alpha)
        got = mx.reference.pair_lambda(seed, rows, cols, alpha).double()
        assert float(((got - want) / want).abs().max()) < (1e-13 if alpha == 2.0 else 1e-8)

    def test_symmetric(self) -> None:
        index = torch.arange(50)
        lam = mx.reference.pair_lambda(3, index, index, 2.0).double()
        assert torch.equal(lam, 1.0 - lam.T) or float((lam + lam.T - 1.0).abs().max()) < 1e-15
        assert (lam.diagonal() == 0.5).all()
        assert ((lam > 0) & (lam < 1)).all()

    @pytest.mark.parametrize("alpha", [0.5, 2.0])
    def test_distribution(self, alpha: float) -> None:
        index = torch.arange(80)
        lam = mx.reference.pair_lambda(11, index, index, alpha).double()
        sample = lam[torch.triu(torch.ones(80, 80, dtype=torch.bool), 1)]
        assert stats.kstest(sample.numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-3

    @pytest.mark.parametrize("alpha", [0.4, 2.0, 5.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_in_the_loss(self, backend: str, build: Build, alpha: float, dtype: torch.dtype) -> None:
        """lam="pair" is the tensor of the same seed; every backend draws the same."""
        case, loss = CASES["ms"], build(CASES["ms"])
        x, labels = batch("ragged")
        n = len(labels)
        lam = loop_oracle.pair_lambda(2**40 + 9, range(n), range(n), alpha)
        got = mixed_and_gradients(loss, x.to(dtype), labels, "pos-neg", None, 2**40 + 9, alpha=alpha)
        want = expected(case, loss, x.to(dtype).double(), labels, "pos-neg", lam)
        assert_close(got, want, *((1e-6, 1e-13) if dtype == torch.float64 else (1e-4, 1e-6)))

    def test_one_lambda_per_unordered_pair(self, backend: str, build: Build) -> None:
        """Two examples of two classes: i mixes {0, 1} with lambda, 1 mixes it with 1 - lambda."""
        x, labels = batch("two unlike")
        loss = build(CASES["contrastive"], margin=-5.0)
        u = F.normalize(x, dim=1)
        got = metrix(loss).mixed_loss(x, labels, pairs="anc-neg", seed=4)
        lam = loop_oracle.lambda_of(4, 0, 1, 2.0)
        want = 0.0
        for i, weight in ((0, lam), (1, 1.0 - lam)):
            s = float(u[i] @ (weight * u[i] + (1 - weight) * u[1 - i]))
            want += (-weight * s + (1 - weight) * (s + 5.0)) / 2
        assert math.isclose(got.item(), want, rel_tol=1e-9)

    def batch_lambda(self, build: Build, seed: int | None) -> float:
        """The lambda of one call, recovered from a loss that is linear in it: -(lam + (1 - lam) s)."""
        x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        criterion = metrix(build(CASES["contrastive"]), lam="batch")
        return -float(criterion.mixed_loss(x, torch.tensor([0, 0]), pairs="anc-pos", seed=seed))

    def test_one_per_call(self, build: Build) -> None:
        case, loss = CASES["ms"], build(CASES["ms"])
        x, labels = batch("ragged")
        for seed in range(3):
            lam = self.batch_lambda(build, seed)
            assert 0.0 < lam < 1.0
            inp = leaf(x)
            value = metrix(loss, lam="batch").mixed_loss(inp, labels, pairs="pos-neg", seed=seed)
            got = gradients(value, [inp])
            assert_close(got, expected(case, loss, x, labels, "pos-neg", lam), rtol=1e-7)

    def test_distribution_over_calls(self, build: Build) -> None:
        torch.manual_seed(0)
        for seeds in ([None] * 300, list(range(300))):
            sample = [self.batch_lambda(build, seed) for seed in seeds]
            assert stats.kstest(sample, "beta", args=(2.0, 2.0)).pvalue > 1e-3

    @pytest.mark.parametrize("name", PROXY_CASES)
    @pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg", "anc-pos"])
    def test_with_proxies(self, backend: str, build: Build, name: str, pairs: str) -> None:
        """Sampled mixes of proxies and examples: set by the seed, and different from pair to pair."""
        loss = build(CASES[name])
        x, labels = batch("ragged")
        criterion = metrix(loss)
        values = [criterion.mixed_loss(x, labels, pairs=pairs, seed=seed).item() for seed in (1, 1, 2)]
        assert values[0] == values[1]
        if values[0] != 0.0:
            assert values[0] != values[2]

    @pytest.mark.parametrize("lam", ["pair", "batch"])
    def test_drawn_anew_at_each_call(self, build: Build, lam: str) -> None:
        x, labels = batch("ragged")
        criterion = metrix(build(CASES["ms"]), lam=lam)

        def three() -> list[float]:
            torch.manual_seed(5)
            return [criterion.mixed_loss(x, labels, pairs="pos-neg").item() for _ in range(3)]

        first = three()
        assert len(set(first)) == 3
        assert three() == first

    def test_fixed(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        lam = random_lambda((len(labels), len(labels)), 5)
        for fixed in (0.3, lam):
            given = metrix(loss).mixed_loss(x, labels, pairs="pos-neg", lam=fixed)
            assert torch.equal(metrix(loss, lam=fixed).mixed_loss(x, labels, pairs="pos-neg"), given)


CHANNELS = 5


def feature_map(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(n, CHANNELS, 3, 2, generator=generator, dtype=torch.float64)


def pooling_head(pool: str, seed: int = 0) -> nn.Module:
    """The package's head with weights of our own, so that the bias is not 0."""
    head = mx.heads.PoolingHead(in_channels=CHANNELS, embedding_size=DIM, pool=pool).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return head


def head_by_hand(head: nn.Module, pool: str) -> Encode:
    """Pool, linear, l2 norm, written out on the head's own parameters."""
    weight = next(p for p in head.parameters() if p.ndim == 2)
    bias = next(p for p in head.parameters() if p.ndim == 1)

    def encode(f: Tensor) -> Tensor:
        positions = f.flatten(2)
        pooled = torch.zeros_like(positions[:, :, 0])
        if "avg" in pool:
            pooled = pooled + positions.sum(2) / positions.shape[2]
        if "max" in pool:
            pooled = pooled + positions.max(2).values
        z = pooled @ weight.T + bias
        return z / torch.linalg.vector_norm(z, dim=1, keepdim=True)

    return encode


class SmallModel(nn.Module):
    """A smooth model from images or features to unit vectors, one example independent of the others."""

    def __init__(self, channels: int, seed: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 2)
        self.linear = nn.Linear(4, DIM)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.linear(torch.tanh(self.conv(x)).mean((2, 3))), dim=1)


def mixed_source(
    criterion: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: object,
    source: Tensor,
    encode: Encode,
    parameters: list[Tensor],
    seed: int | None = None,
) -> Tensors:
    x, source = leaf(x), leaf(source)
    value = criterion.mixed_loss(x, labels, pairs=pairs, lam=lam, source=source, encode=encode, seed=seed)
    return gradients(value, [x, source, *criterion.loss.parameters(), *parameters])


def expected_source(
    case: Case,
    loss: nn.Module,
    x: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    source: Tensor,
    encode: Encode,
    parameters: list[Tensor],
    hard_negatives: int | None = None,
) -> Tensors:
    x, source = leaf(x), leaf(source)
    proxies = [leaf(p) for p in loss.parameters()]
    value = loop_oracle.mixed_loss(
        case.loss,
        x,
        labels,
        pairs,
        lam,
        *proxies,
        source=source,
        encode=encode,
        hard_negatives=hard_negatives,
    )
    return gradients(value, [x, source, *proxies, *parameters])


def not_refused(names: Sequence[str], sets: Sequence[str]) -> list[tuple[str, str]]:
    """Without the proxies as anchors where the anchor is mixed: they have no feature map and no image."""
    product = itertools.product(names, sets)
    return [(name, s) for name, s in product if not (CASES[name].has_proxies and s.startswith("anc-"))]


class TestFeature:
    @pytest.mark.parametrize(("name", "pairs"), not_refused([*PAIR_CASES, "pa", "pa-paper"], PAIR_SETS))
    @pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
    def test_pooling_head(self, backend: str, build: Build, name: str, pairs: str, pool: str) -> None:
        """Values, and gradients to the anchors, the features and the head, each on its own."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged", 2)
        source, head = feature_map(len(labels)), pooling_head(pool)
        lam = random_lambda((len(labels), len(labels)), 5)
        parameters = list(head.parameters())
        got = mixed_source(metrix(loss, mix="feature"), x, labels, pairs, lam, source, head, parameters)
        by_hand = head_by_hand(head, pool)
        want = expected_source(case, loss, x, labels, pairs, lam, source, by_hand, parameters)
        assert_close(got, want, rtol=1e-8)

    @pytest.mark.parametrize(
        ("name", "pairs"),
        not_refused(["ms", "contrastive-mean", "nca", "pa"], ["pos-neg", "neg-neg", "anc-neg"]),
    )
    @pytest.mark.parametrize("pool", ["avg", "avg+max"])
    def test_sampled_lambda(self, backend: str, build: Build, name: str, pairs: str, pool: str) -> None:
        """lambda_ji = 1 - lambda_ij: here the mix of {i, j} may be made once for both."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged", 2)
        n = len(labels)
        source, head = feature_map(n), pooling_head(pool)
        parameters = list(head.parameters())
        criterion = metrix(loss, mix="feature")
        got = mixed_source(criterion, x, labels, pairs, None, source, head, parameters, seed=77)
        lam = loop_oracle.pair_lambda(77, range(n), range(n), 2.0)
        want = expected_source(case, loss, x, labels, pairs, lam, source, head_by_hand(head, pool), parameters)
        assert_close(got, want, rtol=1e-8)

    @pytest.mark.parametrize(
        ("name", "pairs"),
        not_refused(["ms", "contrastive-nonzero", "lifted", "pa"], ["pos-neg", "anc-neg", "pos-pos"]),
    )
    @pytest.mark.parametrize("lam", ["float", "tensor"])
    def test_any_encode(self, backend: str, build: Build, name: str, pairs: str, lam: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged", 2)
        source, model = feature_map(len(labels)), SmallModel(CHANNELS)
        weights = 0.7 if lam == "float" else random_lambda((len(labels), len(labels)), 5)
        parameters = list(model.parameters())
        got = mixed_source(metrix(loss, mix="feature"), x, labels, pairs, weights, source, model, parameters)
        want = expected_source(case, loss, x, labels, pairs, weights, source, model, parameters)
        assert_close(got, want, rtol=1e-8)

    @pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
    @pytest.mark.parametrize("layout", SMALL_LAYOUTS)
    @every_set
    def test_small_batches(self, backend: str, build: Build, pool: str, layout: str, pairs: str) -> None:
        case, loss = CASES["ms"], build(CASES["ms"])
        x, labels = batch(layout)
        source, head = feature_map(len(labels)), pooling_head(pool)
        parameters = list(head.parameters())
        got = mixed_source(metrix(loss, mix="feature"), x, labels, pairs, 0.6, source, head, parameters)
        want = expected_source(case, loss, x, labels, pairs, 0.6, source, head_by_hand(head, pool), parameters)
        assert_close(got, want, rtol=1e-8)

    @pytest.mark.parametrize("name", ["ms", "contrastive-nonzero"])
    @pytest.mark.parametrize("lam", ["tensor", "pair"])
    @pytest.mark.parametrize("workspace", [1, 5000])
    @every_set
    def test_chunks(self, build: Build, name: str, lam: str, workspace: int, pairs: str) -> None:
        """One pair at a time, and a few: the sums of an anchor go on from chunk to chunk."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged", 2)
        n = len(labels)
        source, head = feature_map(n), pooling_head("avg+max")
        parameters = list(head.parameters())
        seeds = range(n), range(n)
        weights = random_lambda((n, n), 5) if lam == "tensor" else loop_oracle.pair_lambda(6, *seeds, 2.0)
        given = weights if lam == "tensor" else None
        criterion = metrix(loss, mix="feature", workspace=workspace)
        got = mixed_source(criterion, x, labels, pairs, given, source, head, parameters, seed=6)
        by_hand = head_by_hand(head, "avg+max")
        want = expected_source(case, loss, x, labels, pairs, weights, source, by_hand, parameters)
        assert_close(got, want, rtol=1e-8)

    @pytest.mark.parametrize("pool", ["avg", "avg+max"])
    @pytest.mark.parametrize("pairs", ["pos-neg", "anc-neg"])
    def test_hard_negatives(self, backend: str, build: Build, pool: str, pairs: str) -> None:
        case, loss = CASES["ms"], build(CASES["ms"])
        x, labels = batch("ragged", 2)
        source, head = feature_map(len(labels)), pooling_head(pool)
        parameters = list(head.parameters())
        lam = random_lambda((len(labels), len(labels)), 5)
        criterion = metrix(loss, mix="feature", hard_negatives=2)
        got = mixed_source(criterion, x, labels, pairs, lam, source, head, parameters)
        want = expected_source(case, loss, x, labels, pairs, lam, source, head_by_hand(head, pool), parameters, 2)
        assert_close(got, want, rtol=1e-8)

    def test_embeddings_of_the_same_features(self, backend: str, build: Build) -> None:
        """As in training: the anchors come from the features that are mixed, and their gradients add up."""
        loss = build(CASES["ms"])
        _, labels = batch("ragged")
        head = pooling_head("avg+max")
        f1, f2 = leaf(feature_map(len(labels))), leaf(feature_map(len(labels)))
        criterion = metrix(loss, mix="feature", pairs="pos-neg", strength=0.4, lam=0.3)
        got = gradients(criterion(head(f1), labels, source=f1, encode=head), [f1, *head.parameters()])
        by_hand = head_by_hand(head, "avg+max")
        clean = loop_oracle.clean_loss(CASES["ms"].loss, by_hand(f2), labels)
        mixed = loop_oracle.mixed_loss(CASES["ms"].loss, by_hand(f2), labels, "pos-neg", 0.3, source=f2, encode=by_hand)
        assert_close(got, gradients(clean + 0.4 * mixed, [f2, *head.parameters()]), rtol=1e-8)

    @pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
    def test_bitwise_repeatable(self, backend: str, build: Build, pool: str) -> None:
        loss = build(CASES["ms"])
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 4, (24,), generator=generator)
        x = torch.randn(24, DIM, generator=generator, dtype=torch.float64)
        head = pooling_head(pool)
        criterion = metrix(loss, mix="feature")
        runs = [
            mixed_source(criterion, x, labels, "pos-neg", None, feature_map(24), head, list(head.parameters()), 3)
            for _ in range(2)
        ]
        for a, b in zip(*runs, strict=True):
            assert torch.equal(a, b)

    def test_nan_in_the_features(self, backend: str, build: Build) -> None:
        x, labels = batch("ragged")
        for pool in ("avg", "max", "avg+max"):
            source = feature_map(len(labels))
            source[2, 1, 1, 1] = float("nan")
            criterion = metrix(build(CASES["ms"]), mix="feature")
            value = criterion.mixed_loss(x, labels, pairs="pos-neg", lam=0.3, source=source, encode=pooling_head(pool))
            assert value.isnan(), pool

    def test_reference_function(self, build: Build) -> None:
        case, loss = CASES["ms"], build(CASES["ms"])
        x, labels = batch("ragged", 2)
        source, head = feature_map(len(labels)), pooling_head("avg+max")
        lam = random_lambda((len(labels), len(labels)), 5)
        got = mx.reference.mixed_loss(loss, x, labels, "pos-neg", lam, source=source, encode=head, hard_negatives=2)
        by_hand = head_by_hand(head, "avg+max")
        want = expected_source(case, loss, x, labels, "pos-neg", lam, source, by_hand, [], 2)
        assert_close([got.detach()], want[:1], rtol=1e-9)


class TestInput:
    @pytest.mark.parametrize(("name", "pairs"), not_refused(["ms", "contrastive", "nca", "pa"], ["pos-neg", "anc-neg"]))
    @pytest.mark.parametrize("hard", ["default", 1, "all"])
    def test_images(self, backend: str, build: Build, name: str, pairs: str, hard: object) -> None:
        """By default only the three hardest negatives of each anchor are mixed."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged", 2)
        generator = torch.Generator().manual_seed(8)
        images = torch.randn(len(labels), 3, 4, 4, generator=generator, dtype=torch.float64)
        model = SmallModel(3)
        parameters = list(model.parameters())
        lam = random_lambda((len(labels), len(labels)), 5)
        criterion = metrix(loss, mix="input", **({} if hard == "default" else {"hard_negatives": hard}))
        got = mixed_source(criterion, x, labels, pairs, lam, images, model, parameters)
        k = {"default": 3, 1: 1, "all": None}[hard]  # type: ignore[index]
        want = expected_source(case, loss, x, labels, pairs, lam, images, model, parameters, k)
        assert_close(got, want, rtol=1e-8)
        if hard == "default":
            every = expected_source(case, loss, x, labels, pairs, lam, images, model, parameters)
            assert relative_error(want[0], every[0]) > 1e-6  # type: ignore[arg-type]

    def test_hard_negatives_per_mix(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged", 2)
        source, model = feature_map(len(labels)), SmallModel(CHANNELS)
        options = {"pairs": "pos-neg", "lam": 0.3, "strength": 1.0}
        for mix, k in (("feature", 2), ("input", 3), ("embed", None)):
            per_mix = metrix(loss, mix=mix, hard_negatives={"feature": 2}, **options)
            single = metrix(loss, mix=mix, hard_negatives=k, **options)
            given = {} if mix == "embed" else {"source": source, "encode": model}
            assert torch.equal(per_mix(x, labels, **given), single(x, labels, **given)), mix

    def test_batch_norm_statistics_move_once(self, build: Build) -> None:
        """However the backward pass gets its activations, the model sees every mix once."""
        model = nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.Flatten(), nn.Linear(CHANNELS * 6, DIM)).double()
        x, labels = batch("ragged")
        criterion = metrix(build(CASES["ms"]), mix="feature")
        value = criterion.mixed_loss(leaf(x), labels, lam=0.3, source=leaf(feature_map(len(labels))), encode=model)
        before = [b.clone() for b in model.buffers()]
        assert before[0].any()
        value.backward()
        assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


class TestCriterion:
    @default_case
    def test_clean_plus_strength_times_mixed(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name])
        x, labels = batch("ragged")
        criterion = metrix(loss, pairs="pos-neg", strength=0.7, lam=0.3, renormalize=True)
        inp, inp2 = leaf(x), leaf(x)
        got = gradients(criterion(inp, labels), [inp, *loss.parameters()])
        parts = loss(inp2, labels) + 0.7 * criterion.mixed_loss(inp2, labels, pairs="pos-neg")
        assert_close(got, gradients(parts, [inp2, *loss.parameters()]), rtol=1e-12)

    def test_default_strengths_and_both_sets_drawn(self, build: Build) -> None:
        """E is one of two values, and over many calls each about as often as the other."""
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        criterion = mx.Metrix(loss, mix="embed", lam=0.3)
        clean = loss(x, labels)
        of_set = {
            pairs: float(clean + w * criterion.mixed_loss(x, labels, pairs=pairs, lam=0.3))
            for pairs, w in (("pos-neg", 0.4), ("anc-neg", 0.3))
        }

        def drawn(calls: int) -> list[str]:
            torch.manual_seed(0)
            values = [float(criterion(x, labels)) for _ in range(calls)]
            names = [[s for s, v in of_set.items() if math.isclose(v, e, rel_tol=1e-12)] for e in values]
            assert all(len(found) == 1 for found in names)
            return [found[0] for found in names]

        first = drawn(200)
        assert 60 < first.count("pos-neg") < 140
        assert drawn(50) == first[:50]

    def test_strength_per_set(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        for pairs in PAIR_SETS:
            criterion = metrix(loss, pairs=(pairs,), strength={pairs: 2.0}, lam=0.3)
            want = loss(x, labels) + 2.0 * criterion.mixed_loss(x, labels, pairs=pairs)
            assert_close([criterion(x, labels)], [want], rtol=1e-12)

    def test_seed_sets_the_lambdas(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        n = len(labels)
        criterion = metrix(loss, pairs="pos-neg", strength=1.0)
        lam = loop_oracle.pair_lambda(123, range(n), range(n), 2.0)
        want = loss(x, labels) + criterion.mixed_loss(x, labels, pairs="pos-neg", lam=lam)
        assert_close([criterion(x, labels, seed=123)], [want], rtol=1e-9)

    def test_repeatable_with_equal_seeds(self, build: Build) -> None:
        x, labels = batch("ragged")
        criterion = mx.Metrix(build(CASES["ms"]), mix="embed")

        def five() -> list[float]:
            torch.manual_seed(9)
            return [float(criterion(x, labels)) for _ in range(5)]

        first = five()
        assert five() == first
        assert len(set(first)) == 5

    def test_without_gradients(self, backend: str, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged", 2)
        given = {"lam": 0.3, "source": feature_map(len(labels)), "encode": pooling_head("avg+max")}
        criterion = metrix(loss, mix="feature")
        want = criterion.mixed_loss(leaf(x), labels, **given)
        with torch.no_grad():
            value = criterion.mixed_loss(x, labels, **given)
        assert want.requires_grad
        assert not value.requires_grad
        assert_close([value], [want], rtol=1e-12)

    def test_several_mixes(self, build: Build) -> None:
        """One of them is drawn at each call, each with its own source and encode."""
        loss = build(CASES["ms"])
        x, labels = batch("ragged", 2)
        features, head = feature_map(len(labels)), pooling_head("avg+max")
        images, model = feature_map(len(labels), 1), SmallModel(CHANNELS)
        source, encode = {"feature": features, "input": images}, {"feature": head, "input": model}
        options = {"pairs": "pos-neg", "strength": 1.0, "lam": 0.3}
        alone = {
            "embed": metrix(loss, mix="embed", **options)(x, labels),
            "feature": metrix(loss, mix="feature", **options)(x, labels, source=features, encode=head),
            "input": metrix(loss, mix="input", **options)(x, labels, source=images, encode=model),
        }
        criterion = metrix(loss, mix=("input", "feature", "embed"), **options)
        torch.manual_seed(0)
        counts = dict.fromkeys(alone, 0)
        for _ in range(90):
            value = float(criterion(x, labels, source=source, encode=encode).detach())
            found = [mix for mix, v in alone.items() if math.isclose(v.item(), value, rel_tol=1e-12)]
            assert len(found) == 1
            counts[found[0]] += 1
        assert all(15 < count < 45 for count in counts.values()), counts

    def test_one_source_for_the_one_mix_that_needs_it(self, build: Build) -> None:
        loss = build(CASES["ms"])
        x, labels = batch("ragged", 2)
        features, head = feature_map(len(labels)), pooling_head("avg")
        options = {"pairs": "pos-neg", "strength": 1.0, "lam": 0.3}
        alone = {
            float(metrix(loss, mix="embed", **options)(x, labels)),
            float(metrix(loss, mix="feature", **options)(x, labels, source=features, encode=head)),
        }
        criterion = metrix(loss, mix=("feature", "embed"), **options)
        torch.manual_seed(0)
        values = {float(criterion(x, labels, source=features, encode=head)) for _ in range(30)}
        assert values == alone

    def test_parameters_are_those_of_the_loss(self, build: Build) -> None:
        loss = build(CASES["pa"])
        assert [p is q for p, q in zip(metrix(loss).parameters(), loss.parameters(), strict=True)] == [True]

    @pytest.mark.parametrize(("name", "layout"), [(n, "none") for n in CASES] + [(n, "one") for n in PAIR_CASES])
    def test_nothing_is_a_differentiable_zero(self, backend: str, build: Build, name: str, layout: str) -> None:
        x, labels = batch(layout)
        x = leaf(x)
        value = mx.Metrix(build(CASES[name]), mix="embed")(x, labels)
        value.backward()
        assert value.item() == 0.0
        assert_zero_gradient(x)


X = torch.zeros(4, DIM)
Y = torch.tensor([0, 0, 1, 1])
FEATURES = torch.zeros(4, CHANNELS, 2, 2)


def small_head(f: Tensor) -> Tensor:
    return F.normalize(F.pad(f.mean((2, 3)), (0, DIM - CHANNELS)), dim=1)


def proxy_anchor() -> nn.Module:
    return mx.losses.ProxyAnchorLoss(3, DIM)


def proxy_nca() -> nn.Module:
    return mx.losses.ProxyNCALoss(3, DIM)


def ms() -> nn.Module:
    return mx.losses.MultiSimilarityLoss()


class TestRefused:
    @pytest.mark.parametrize("mix", ["feature", "input"])
    @pytest.mark.parametrize(
        ("loss", "pairs"),
        [
            (proxy_anchor, "anc-neg"),
            (proxy_anchor, "anc-pos"),
            (proxy_nca, "pos-neg"),
            (proxy_nca, "anc-neg"),
            (proxy_nca, "neg-neg"),
        ],
    )
    def test_proxies_have_nothing_but_an_embedding(self, mix: str, loss: Callable[[], nn.Module], pairs: str) -> None:
        with pytest.raises(ValueError, match="embed"):
            mx.Metrix(loss(), mix=mix, pairs=pairs)(X, Y, source=FEATURES, encode=small_head)
        with pytest.raises(ValueError, match="embed"):
            mx.Metrix(loss(), mix=mix, pairs="pos-neg").mixed_loss(
                X, Y, pairs=pairs, lam=0.5, source=FEATURES, encode=small_head
            )

    @pytest.mark.parametrize(
        ("argument", "options"),
        [
            ("mix", {"mix": "manifold"}),
            ("mix", {"mix": ()}),
            ("pairs", {"pairs": "pos-anc"}),
            ("pairs", {"pairs": ()}),
            ("alpha", {"alpha": 0.0}),
            ("lam", {"lam": "triplet"}),
            ("lam", {"lam": 1.5}),
            ("hard_negatives", {"hard_negatives": 0}),
            ("hard_negatives", {"hard_negatives": "some"}),
            ("strength", {"strength": -1.0}),
            ("strength", {"pairs": "pos-pos", "strength": {"pos-neg": 0.4}}),
        ],
    )
    def test_wrong_construction(self, argument: str, options: dict[str, object]) -> None:
        with pytest.raises((ValueError, TypeError), match=argument):
            mx.Metrix(ms(), **{"mix": "embed", **options})

    def test_not_a_loss_of_table_1(self) -> None:
        with pytest.raises((ValueError, TypeError), match="loss"):
            mx.Metrix(nn.CrossEntropyLoss(), mix="embed")

    @pytest.mark.parametrize(
        ("argument", "call"),
        [
            ("source", lambda: mx.Metrix(ms())(X, Y, encode=small_head)),
            ("source", lambda: mx.Metrix(ms(), mix="feature")(X, Y, encode=small_head)),
            ("encode", lambda: mx.Metrix(ms(), mix="feature")(X, Y, source=FEATURES)),
            ("source", lambda: mx.Metrix(ms(), mix="feature")(X, Y, source=FEATURES[:3], encode=small_head)),
            ("lam", lambda: metrix(ms()).mixed_loss(X, Y, pairs="pos-neg", lam=torch.zeros(3, 4))),
            ("lam", lambda: metrix(proxy_anchor()).mixed_loss(X, Y, pairs="anc-neg", lam=torch.zeros(4, 4))),
            ("pairs", lambda: metrix(ms()).mixed_loss(X, Y, pairs="all", lam=0.5)),
            ("labels", lambda: metrix(ms()).mixed_loss(X, Y[:3], pairs="pos-neg", lam=0.5)),
            ("embeddings", lambda: metrix(ms()).mixed_loss(X[0], Y, pairs="pos-neg", lam=0.5)),
        ],
    )
    def test_wrong_call(self, argument: str, call: Callable[[], object]) -> None:
        with pytest.raises((ValueError, TypeError), match=argument):
            call()


@st.composite
def mixing_problems(draw: st.DrawFn) -> tuple[str, str, bool, Tensor, Tensor, int]:
    n = draw(st.integers(0, 7))
    labels = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    seed = draw(st.integers(0, 2**31))
    x = torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    name, pairs = draw(st.sampled_from(sorted(CASES))), draw(st.sampled_from(PAIR_SETS))
    return name, pairs, draw(st.booleans()), x, torch.tensor(labels, dtype=torch.int64), seed


# The backend fixture is entered once for all examples of a test, which is what is wanted.
QUIET = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestProperties:
    @given(problem=mixing_problems())
    @settings(QUIET, max_examples=60)
    def test_any_batch_as_the_loops_say(
        self, backend: str, build: Build, problem: tuple[str, str, bool, Tensor, Tensor, int]
    ) -> None:
        name, pairs, renormalize, x, labels, seed = problem
        case, loss = CASES[name], build(CASES[name], seed)
        lam = random_lambda(lambda_shape(case, pairs, len(labels)), seed)
        got = mixed_and_gradients(loss, x, labels, pairs, lam, renormalize=renormalize)
        assert_close(got, expected(case, loss, x, labels, pairs, lam, renormalize=renormalize), rtol=1e-8)

    @given(problem=mixing_problems())
    @settings(QUIET, max_examples=30)
    def test_order_of_the_batch_does_not_matter(
        self, backend: str, build: Build, problem: tuple[str, str, bool, Tensor, Tensor, int]
    ) -> None:
        """With a lambda that is symmetric as the sampled one is, unordered pairs have no order either."""
        _, pairs, renormalize, x, labels, seed = problem
        n = len(labels)
        loss = build(CASES["ms"])
        lam = loop_oracle.pair_lambda(seed, range(n), range(n), 2.0)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        criterion = metrix(loss, renormalize=renormalize)
        want = criterion.mixed_loss(x, labels, pairs=pairs, lam=lam)
        got = criterion.mixed_loss(x[order], labels[order], pairs=pairs, lam=lam[order][:, order])
        assert_close([got.detach()], [want.detach()], rtol=1e-9)
