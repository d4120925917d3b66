"""The clean losses, Eq. (7): against the loop oracle and pytorch-metric-learning, and on awkward input."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import metrix_ext as mx
from tests.support import loop_oracle
from tests.support.loop_oracle import (
    CASES,
    DIM,
    LAYOUTS,
    NUM_CLASSES,
    OTHER_PARAMETERS,
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

ALL_CASES = {**CASES, **OTHER_PARAMETERS}
PAIR_CASES = {name: case for name, case in CASES.items() if not case.has_proxies}
Build = Callable[..., nn.Module]

every_case = pytest.mark.parametrize("name", ALL_CASES)
default_case = pytest.mark.parametrize("name", CASES)
pair_case = pytest.mark.parametrize("name", PAIR_CASES)


def proxies_of(loss: nn.Module) -> Tensor | None:
    return next(iter(loss.parameters()), None)


def value_and_gradients(loss: nn.Module, x: Tensor, labels: Tensor, **arguments: object) -> Tensors:
    x = leaf(x)
    proxies = proxies_of(loss)
    value = loss(x, labels, **arguments)
    assert value.shape == ()
    inputs = [x] if proxies is None else [x, proxies]
    return [value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)]


def expected(case: Case, loss: nn.Module, x: Tensor, labels: Tensor, **arguments: object) -> Tensors:
    x = leaf(x.to(case.loss.dtype))
    proxies = proxies_of(loss)
    proxies = None if proxies is None else leaf(proxies.to(case.loss.dtype))
    value = loop_oracle.clean_loss(case.loss, x, labels, proxies, **arguments)  # type: ignore[arg-type]
    inputs = [x] if proxies is None else [x, proxies]
    return [value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)]


class TestAgainstLoops:
    @every_case
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_values_and_gradients(self, backend: str, build: Build, name: str, layout: str) -> None:
        case, loss = ALL_CASES[name], build(ALL_CASES[name])
        x, labels = batch(layout)
        assert_close(value_and_gradients(loss, x, labels), expected(case, loss, x, labels), rtol=1e-10)

    @default_case
    def test_sizes_off_every_vector_width(self, backend: str, build: Build, name: str) -> None:
        case, loss = CASES[name], build(CASES[name], embedding_size=19) if CASES[name].has_proxies else None
        loss = build(case) if loss is None else loss
        generator = torch.Generator().manual_seed(3)
        labels = torch.randint(0, NUM_CLASSES, (37,), generator=generator)
        x = torch.randn(37, 19, generator=generator, dtype=torch.float64)
        assert_close(value_and_gradients(loss, x, labels), expected(case, loss, x, labels), rtol=1e-10)

    @default_case
    def test_a_larger_batch(self, build: Build, name: str) -> None:
        """Many blocks of whatever size; the default backend against the literal version."""
        loss = build(CASES[name])
        generator = torch.Generator().manual_seed(1)
        labels = torch.randint(0, NUM_CLASSES, (700,), generator=generator)
        x = torch.randn(700, DIM, generator=generator, dtype=torch.float64)
        inp = leaf(x)
        want = mx.reference.clean_loss(loss, inp, labels)
        wanted = [want.detach(), *torch.autograd.grad(want, [inp, *loss.parameters()])]
        assert_close(value_and_gradients(loss, x, labels), wanted, rtol=1e-9)

    @default_case
    def test_without_normalising(self, backend: str, build: Build, name: str) -> None:
        case = CASES[name]
        case = case._replace(loss=replace(case.loss, normalize=False))
        loss = build(case, normalize=False)
        assert loss.normalize is False
        x, labels = batch("ragged")
        assert_close(value_and_gradients(loss, x, labels), expected(case, loss, x, labels), rtol=1e-10)

    @default_case
    def test_reference_functions(self, build: Build, name: str) -> None:
        """mx.reference takes the modules too, whatever the backend."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        want = expected(case, loss, x, labels)[0]
        assert_close([mx.reference.clean_loss(loss, x, labels).detach()], [want], rtol=1e-10)

    @default_case
    def test_float32_is_as_good_as_the_literal_formula(self, backend: str, build: Build, name: str) -> None:
        """The error to the float64 truth, against that of the loops in float32."""
        case, loss = CASES[name], build(CASES[name], dtype=torch.float32)
        naive = case._replace(loss=replace(case.loss, dtype=torch.float32))
        worst, allowed = [0.0] * 3, [0.0] * 3
        for seed in range(4):
            x, labels = batch("ragged", seed)
            x = x.float()
            truth = expected(case, loss, x.double(), labels)
            got, literal = value_and_gradients(loss, x, labels), expected(naive, loss, x, labels)
            for k, (g, n, t) in enumerate(zip(got, literal, truth, strict=True)):
                assert g.dtype == torch.float32
                worst[k] = max(worst[k], relative_error(g, t))
                allowed[k] = max(allowed[k], relative_error(n, t))
        floor = 2e-6
        assert all(w <= a + floor for w, a in zip(worst, allowed, strict=True)), (worst, allowed)

    @default_case
    def test_gradcheck(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name])
        x, labels = batch("ragged")
        assert torch.autograd.gradcheck(lambda x: loss(x, labels), leaf(x))


class TestLabels:
    @pair_case
    def test_only_equality_counts(self, backend: str, build: Build, name: str) -> None:
        """Negative and huge labels, some of which agree in their low 32 bits and in float64."""
        x, labels = batch("ragged")
        names = torch.tensor([-(2**63), 2**63 - 1, 2**62, 2**62 + 1, -1], dtype=torch.int64)
        loss = build(CASES[name])
        want = value_and_gradients(loss, x, labels)
        assert_close(value_and_gradients(loss, x, names[labels]), want, rtol=1e-13)

    @pair_case
    def test_labels_alike_in_their_low_bits(self, backend: str, build: Build, name: str) -> None:
        x, _ = batch("ragged")
        labels = torch.tensor([0, 2**32, 0, 2**32, 2**33, 2**33, 1, 1])
        loss = build(CASES[name])
        assert_close(value_and_gradients(loss, x, labels), expected(CASES[name], loss, x, labels), rtol=1e-10)

    @default_case
    @pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
    def test_other_integer_types(self, backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
        x, labels = batch("ragged")
        loss = build(CASES[name])
        want = value_and_gradients(loss, x, labels)
        assert_close(value_and_gradients(loss, x, labels.to(dtype)), want, rtol=1e-13)

    @default_case
    def test_order_of_the_batch_does_not_matter(self, backend: str, build: Build, name: str) -> None:
        x, labels = batch("ragged")
        order = torch.tensor([5, 2, 7, 0, 3, 1, 6, 4])
        loss = build(CASES[name])
        want = value_and_gradients(loss, x, labels)
        got = value_and_gradients(loss, x[order], labels[order])
        assert_close(got, [want[0], want[1][order], *want[2:]], rtol=1e-11)


class TestAwkwardInput:
    @default_case
    def test_zero_vectors(self, backend: str, build: Build, name: str) -> None:
        """A zero vector has similarity 0 with everything; the others get their gradients as ever."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        x[0], x[3] = 0.0, 0.0
        got, want = value_and_gradients(loss, x, labels), expected(case, loss, x, labels)
        others = [1, 2, 4, 5, 6, 7]
        assert torch.isfinite(got[1]).all()
        assert_close([got[0], got[1][others], *got[2:]], [want[0], want[1][others], *want[2:]], rtol=1e-10)

    @default_case
    def test_non_contiguous(self, backend: str, build: Build, name: str) -> None:
        x, labels = batch("ragged")
        loss = build(CASES[name])
        want = value_and_gradients(loss, x, labels)
        transposed = x.t().contiguous().t()
        strided = torch.stack([x, x + 1], dim=2)[:, :, 0]
        labels_strided = torch.stack([labels, labels + 1], dim=1)[:, 0]
        for view in (transposed, strided):
            assert not view.is_contiguous()
            inp = view.detach().requires_grad_()
            value = loss(inp, labels_strided)
            assert_close([value.detach(), torch.autograd.grad(value, inp)[0]], want[:2], rtol=1e-11)

    @default_case
    def test_upstream_gradient(self, backend: str, build: Build, name: str) -> None:
        x, labels = batch("ragged")
        loss = build(CASES[name])
        want = value_and_gradients(loss, x, labels)[1]
        x = leaf(x)
        (loss(x, labels) * -3.0).backward()
        assert_close([x.grad], [-3.0 * want], rtol=1e-12)

    @pytest.mark.parametrize(("name", "layout"), [(n, "none") for n in CASES] + [(n, "one") for n in PAIR_CASES])
    def test_nothing_to_compare_is_a_differentiable_zero(
        self, backend: str, build: Build, name: str, layout: str
    ) -> None:
        loss = build(CASES[name])
        x, labels = batch(layout)
        x = leaf(x)
        value = loss(x, labels)
        value.backward()
        assert value.item() == 0.0
        assert_zero_gradient(x)

    @pytest.mark.parametrize("name", ["lifted", "nca"])
    @pytest.mark.parametrize("layout", ["one class", "singletons"])
    def test_undefined_anchors(self, backend: str, build: Build, name: str, layout: str) -> None:
        x, labels = batch(layout)
        x = leaf(x)
        value = build(CASES[name])(x, labels)
        value.backward()
        assert value.item() == 0.0
        assert_zero_gradient(x)

    @default_case
    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_not_finite_in_nan_out(self, backend: str, build: Build, name: str, bad: float) -> None:
        x, labels = batch("ragged")
        x[2, 1] = bad
        assert build(CASES[name])(x, labels).isnan()

    @default_case
    def test_nan_without_normalising(self, backend: str, build: Build, name: str) -> None:
        x, labels = batch("ragged")
        x[2, 1] = float("nan")
        x = leaf(x)
        value = build(CASES[name], normalize=False)(x, labels)
        value.backward()
        assert value.isnan()
        assert x.grad is not None
        assert x.grad.isnan().any()

    @pytest.mark.parametrize("name", ["pa", "pa-paper", "proxynca", "proxynca++"])
    def test_nan_in_a_proxy(self, backend: str, build: Build, name: str) -> None:
        x, labels = batch("ragged")
        loss = build(CASES[name])
        proxies = proxies_of(loss)
        assert proxies is not None
        with torch.no_grad():
            proxies[2, 0] = float("nan")
        assert loss(x, labels).isnan()

    @default_case
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_huge_similarities(self, backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
        """Exponents up to a million: sums are kept as logarithms, so nothing overflows, and rounding stays
        what a literal log-sum-exp has."""
        case = CASES[name]
        case = case._replace(loss=replace(case.loss, normalize=False))
        naive = case._replace(loss=replace(case.loss, dtype=dtype))
        x, labels = batch("ragged")
        x = (100 * x).to(dtype)
        loss = build(case, normalize=False, dtype=dtype)
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.mul_(100)
        truth, literal = expected(case, loss, x.double(), labels), expected(naive, loss, x, labels)
        got = value_and_gradients(loss, x, labels)
        exponent = largest_exponent(case.loss, x)
        assert_no_worse(got[:1], literal[:1], truth[:1], 4 * torch.finfo(dtype).eps, exponent)
        assert_no_worse(got[1:], literal[1:], truth[1:], 1e-5 if dtype == torch.float32 else 1e-8, 1.0)

    @default_case
    def test_bitwise_repeatable(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name], dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(200, DIM, generator=generator)
        labels = torch.randint(0, NUM_CLASSES, (200,), generator=generator)
        first = value_and_gradients(loss, x, labels)
        for _ in range(3):
            for a, b in zip(first, value_and_gradients(loss, x, labels), strict=True):
                assert torch.equal(a, b)

    @default_case
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_input(self, backend: str, build: Build, name: str, dtype: torch.dtype) -> None:
        """Only the input is rounded, not the similarities: else gamma = 75 makes 15 % of it."""
        case, loss = CASES[name], build(CASES[name], dtype=torch.float32)
        x, labels = batch("ragged")
        x = x.to(dtype)
        got, want = value_and_gradients(loss, x, labels), expected(case, loss, x.double(), labels)
        assert got[1].dtype == dtype
        assert relative_error(got[0], want[0]) < 2e-5
        assert relative_error(got[1], want[1]) < 2 * torch.finfo(dtype).eps

    @default_case
    def test_autocast_changes_nothing(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name], dtype=torch.float32)
        x, labels = batch("ragged")
        x = x.float()
        want = value_and_gradients(loss, x, labels)
        x = leaf(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(x, labels)
        got = [value.detach(), *torch.autograd.grad(value, [x, *loss.parameters()])]
        assert_close(got, want, rtol=1e-6)

    @default_case
    def test_without_gradients(self, backend: str, build: Build, name: str) -> None:
        loss = build(CASES[name])
        x, labels = batch("ragged")
        want = value_and_gradients(loss, x, labels)[0]
        with torch.no_grad():
            value = loss(x, labels)
        assert not value.requires_grad
        assert_close([value], [want], rtol=1e-13)


def some_pairs(anchors: Tensor, others: Tensor, same_batch: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every second positive and every third negative pair, and a few of them twice."""
    equal = anchors[:, None] == others[None, :]
    positive = equal & ~torch.eye(len(anchors), dtype=torch.bool) if same_batch else equal
    pos, neg = positive.nonzero()[::2], (~equal).nonzero()[::3]
    pos, neg = torch.cat([pos, pos[:2]]), torch.cat([neg, neg[:4]])
    return pos[:, 0], pos[:, 1], neg[:, 0], neg[:, 1]


class TestTuplesAndReferences:
    @pair_case
    def test_triplets(self, backend: str, build: Build, name: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        chosen = some_triplets(labels)
        want = expected(case, loss, x, labels, indices_tuple=chosen)
        assert_close(value_and_gradients(loss, x, labels, indices_tuple=chosen), want, rtol=1e-10)
        assert relative_error(want[0], expected(case, loss, x, labels)[0]) > 1e-3

    @pair_case
    def test_pairs(self, backend: str, build: Build, name: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        chosen = some_pairs(labels, labels, same_batch=True)
        want = expected(case, loss, x, labels, indices_tuple=chosen)
        assert_close(value_and_gradients(loss, x, labels, indices_tuple=chosen), want, rtol=1e-10)

    @pair_case
    def test_empty_tuple(self, backend: str, build: Build, name: str) -> None:
        x, labels = batch("ragged")
        x = leaf(x)
        nothing = torch.empty(0, dtype=torch.int64)
        value = build(CASES[name])(x, labels, (nothing, nothing, nothing))
        value.backward()
        assert value.item() == 0.0
        assert_zero_gradient(x)

    @pair_case
    @pytest.mark.parametrize("layout", ["none", "one", "ragged"])
    def test_reference_embeddings(self, backend: str, build: Build, name: str, layout: str) -> None:
        """A memory bank of another size; gradients reach it too."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("pairs")
        bank, bank_labels = batch(layout, seed=7)
        x, bank, x2, bank2 = leaf(x), leaf(bank), leaf(x), leaf(bank)
        got = loss(x, labels, ref_emb=bank, ref_labels=bank_labels)
        want = loop_oracle.clean_loss(case.loss, x2, labels, ref_emb=bank2, ref_labels=bank_labels)
        grads = torch.autograd.grad(got, [x, bank], materialize_grads=True)
        wanted = torch.autograd.grad(want, [x2, bank2], materialize_grads=True)
        assert_close([got.detach(), *grads], [want.detach(), *wanted], rtol=1e-10)

    @pair_case
    def test_reference_embeddings_with_pairs(self, backend: str, build: Build, name: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("pairs")
        bank, bank_labels = batch("ragged", seed=7)
        given = {
            "indices_tuple": some_pairs(labels, bank_labels, same_batch=False),
            "ref_emb": bank,
            "ref_labels": bank_labels,
        }
        want = expected(case, loss, x, labels, **given)
        assert_close(value_and_gradients(loss, x, labels, **given), want, rtol=1e-10)

    @pair_case
    def test_the_batch_as_its_own_reference(self, backend: str, build: Build, name: str) -> None:
        """The same tensor: an anchor is not its own positive. A copy: it is, nobody can know better."""
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("ragged")
        assert_close([loss(x, labels, ref_emb=x, ref_labels=labels)], [loss(x, labels)], rtol=1e-13)
        copied = expected(case, loss, x, labels, ref_emb=x.clone(), ref_labels=labels)[0]
        assert_close([loss(x, labels, ref_emb=x.clone(), ref_labels=labels)], [copied], rtol=1e-10)

    @pair_case
    def test_reference_module_takes_them_too(self, build: Build, name: str) -> None:
        case, loss = CASES[name], build(CASES[name])
        x, labels = batch("pairs")
        bank, bank_labels = batch("ragged", seed=7)
        chosen = some_triplets(labels)
        got = mx.reference.clean_loss(loss, x, labels, indices_tuple=chosen)
        assert_close([got], [expected(case, loss, x, labels, indices_tuple=chosen)[0]], rtol=1e-10)
        got = mx.reference.clean_loss(loss, x, labels, ref_emb=bank, ref_labels=bank_labels)
        want = expected(case, loss, x, labels, ref_emb=bank, ref_labels=bank_labels)[0]
        assert_close([got], [want], rtol=1e-10)


class TestAgainstPytorchMetricLearning:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        self.pml = pytest.importorskip("pytorch_metric_learning.losses")

    @pytest.mark.parametrize("layout", ["two unlike", "three", "one class", "singletons", "pairs", "ragged"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_multi_similarity(self, backend: str, build: Build, layout: str, dtype: torch.dtype) -> None:
        x, labels = batch(layout)
        x = x.to(dtype)
        theirs = self.pml.MultiSimilarityLoss(alpha=18, beta=75, base=0.77)
        got = value_and_gradients(build(CASES["ms"]), x, labels)
        want = value_and_gradients(theirs, x, labels)
        assert_close(got, want, *((1e-10, 1e-13) if dtype == torch.float64 else (2e-5, 1e-6)))

    def test_multi_similarity_with_a_miner(self, backend: str, build: Build) -> None:
        x, labels = batch("ragged")
        chosen = some_pairs(labels, labels, same_batch=True)
        theirs = self.pml.MultiSimilarityLoss(alpha=18, beta=75, base=0.77)
        got = value_and_gradients(build(CASES["ms"]), x, labels, indices_tuple=chosen)
        assert_close(got, value_and_gradients(theirs, x, labels, indices_tuple=chosen), rtol=1e-10)

    @pytest.mark.parametrize("layout", ["one", "two unlike", "three", "one class", "singletons", "ragged"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_proxy_anchor(self, backend: str, build: Build, layout: str, dtype: torch.dtype) -> None:
        x, labels = batch(layout)
        x = x.to(dtype)
        ours = build(CASES["pa"], dtype=dtype)
        theirs = self.pml.ProxyAnchorLoss(NUM_CLASSES, DIM, margin=0.1, alpha=32).to(dtype)
        proxies = proxies_of(ours)
        assert proxies is not None
        with torch.no_grad():
            theirs.proxies.copy_(proxies)
        got, want = value_and_gradients(ours, x, labels), value_and_gradients(theirs, x, labels)
        assert_close(got, want, *((1e-10, 1e-13) if dtype == torch.float64 else (2e-5, 1e-6)))


class TestModule:
    @default_case
    def test_normalises_by_default(self, build: Build, name: str) -> None:
        loss = build(CASES[name])
        x, labels = batch("ragged")
        assert loss.normalize is True
        assert_close([loss(7.0 * x, labels)], [loss(x, labels)], rtol=1e-12)

    @pytest.mark.parametrize("name", ["pa", "proxynca", "proxynca++"])
    def test_proxies_are_the_only_parameter(self, build: Build, name: str) -> None:
        loss = build(CASES[name])
        (parameter,) = loss.parameters()
        assert parameter.shape == (NUM_CLASSES, DIM)
        assert parameter.requires_grad
        x, labels = batch("ragged")
        twin = build(CASES[name], seed=99)
        assert loss(x, labels).item() != twin(x, labels).item()
        twin.load_state_dict(loss.state_dict())
        assert torch.equal(loss(x, labels), twin(x, labels))
        assert torch.equal(copy.deepcopy(loss)(x, labels), loss(x, labels))

    @pair_case
    def test_pair_losses_have_no_parameter(self, build: Build, name: str) -> None:
        assert not list(build(CASES[name]).parameters())

    @pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
    def test_compiles_as_one_graph(self, backend: str, build: Build, compiler: str) -> None:
        torch.compiler.reset()
        loss = build(CASES["ms"])
        x, labels = batch("ragged")
        compiled = torch.compile(loss, fullgraph=True, backend=compiler)
        want = value_and_gradients(loss, x, labels)
        assert_close(value_and_gradients(compiled, x, labels), want, rtol=1e-12)


class TestBackendChoice:
    def test_unknown_backend(self) -> None:
        with pytest.raises(ValueError, match="abacus"), mx.use_backend("abacus"):
            pass

    def test_choice_ends_with_the_block(self, build: Build) -> None:
        """The backends round differently, or are the same: never an error, and auto is back afterwards."""
        loss = build(CASES["ms"], dtype=torch.float32)
        x, labels = batch("ragged")
        x = x.float()
        before = loss(x, labels)
        with mx.use_backend("reference"):
            inside = loss(x, labels)
        assert torch.equal(loss(x, labels), before)
        assert_close([inside], [before], rtol=1e-5)


X = torch.zeros(4, DIM)
Y = torch.tensor([0, 0, 1, 1])
WRONG_CONSTRUCTIONS = [
    ("aggregate", lambda: mx.losses.ContrastiveLoss(aggregate="median")),
    ("variant", lambda: mx.losses.ProxyAnchorLoss(3, 4, variant="new")),
    ("beta", lambda: mx.losses.MultiSimilarityLoss(beta=0.0)),
    ("beta", lambda: mx.losses.BinomialDevianceLoss(beta=-1.0)),
    ("gamma", lambda: mx.losses.MultiSimilarityLoss(gamma=-1.0)),
    ("gamma", lambda: mx.losses.ProxyAnchorLoss(3, 4, gamma=0.0)),
    ("temperature", lambda: mx.losses.ProxyNCAPlusPlusLoss(3, 4, temperature=0.0)),
    ("num_classes", lambda: mx.losses.ProxyAnchorLoss(0, 4)),
    ("embedding_size", lambda: mx.losses.ProxyNCALoss(3, 0)),
]
WRONG_CALLS = [
    ("embeddings", lambda loss: loss(X[0], Y)),
    ("embeddings", lambda loss: loss(X.long(), Y)),
    ("embeddings", lambda loss: loss(X.tolist(), Y)),
    ("labels", lambda loss: loss(X, Y[:3])),
    ("labels", lambda loss: loss(X, Y[:, None])),
    ("labels", lambda loss: loss(X, Y.float())),
    ("ref_labels", lambda loss: loss(X, Y, ref_emb=X.clone())),
    ("ref_labels", lambda loss: loss(X, Y, ref_emb=X.clone(), ref_labels=Y[:2])),
    ("ref_emb", lambda loss: loss(X, Y, ref_emb=X[:, :2], ref_labels=Y)),
    ("indices_tuple", lambda loss: loss(X, Y, (Y, Y))),
]


class TestMessages:
    @pytest.mark.parametrize(("argument", "wrong"), WRONG_CONSTRUCTIONS)
    def test_wrong_construction(self, argument: str, wrong: Callable[[], object]) -> None:
        with pytest.raises((ValueError, TypeError), match=argument):
            wrong()

    @pytest.mark.parametrize(("argument", "wrong"), WRONG_CALLS)
    def test_wrong_call(self, backend: str, argument: str, wrong: Callable[[nn.Module], object]) -> None:
        with pytest.raises((ValueError, TypeError), match=argument):
            wrong(mx.losses.MultiSimilarityLoss())

    @pytest.mark.parametrize("name", ["pa", "proxynca", "proxynca++"])
    def test_embeddings_of_another_size_than_the_proxies(self, build: Build, name: str) -> None:
        with pytest.raises(ValueError, match="embedding"):
            build(CASES[name])(torch.zeros(4, DIM + 1, dtype=torch.float64), Y)

    @pytest.mark.parametrize("name", ["pa", "proxynca", "proxynca++"])
    @pytest.mark.parametrize("label", [-1, NUM_CLASSES])
    def test_labels_without_a_proxy(self, build: Build, name: str, label: int) -> None:
        with pytest.raises(ValueError, match="labels"):
            build(CASES[name])(X.double(), torch.tensor([0, 0, 1, label]))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    n = draw(st.integers(0, 9))
    labels = draw(st.lists(st.integers(0, NUM_CLASSES - 1), min_size=n, max_size=n))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(n, DIM, generator=generator, dtype=torch.float64)
    return x * 10.0 ** draw(st.integers(-3, 3)), torch.tensor(labels, dtype=torch.int64)


# The backend fixture is entered once for all examples of a test, which is what is wanted.
QUIET = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestProperties:
    @given(name=st.sampled_from(sorted(ALL_CASES)), xy=batches())
    @settings(QUIET, max_examples=60)
    def test_any_batch_as_the_loops_say(self, backend: str, build: Build, name: str, xy: tuple[Tensor, Tensor]) -> None:
        case, loss = ALL_CASES[name], build(ALL_CASES[name])
        assert_close(value_and_gradients(loss, *xy), expected(case, loss, *xy), rtol=1e-9)

    @given(name=st.sampled_from(sorted(PAIR_CASES)), xy=batches(), seed=st.integers(0, 1000))
    @settings(QUIET, max_examples=30)
    def test_rotations_change_nothing(
        self, backend: str, build: Build, name: str, xy: tuple[Tensor, Tensor], seed: int
    ) -> None:
        loss = build(CASES[name])
        x, labels = xy
        generator = torch.Generator().manual_seed(seed)
        rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64))[0]
        assert_close([loss(x @ rotation, labels)], [loss(x, labels)], rtol=1e-9, atol=1e-12)
