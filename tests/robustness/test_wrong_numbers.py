"""Wrong numbers: what used to be accepted with a number that is not the loss. The reference decides what is right."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, parametrize, prune

import metrix_ext as mx

from .support import (
    CHANNELS,
    CLASSES,
    DIM,
    LOSSES,
    Outcome,
    attempt,
    gave,
    isolated,
    make_batch,
    make_head,
    make_loss,
    make_maps,
    refused,
)

LAM = 0.3


def mixed_and_gradient(criterion: mx.Metrix, maps: Tensor, head: nn.Module) -> list[float]:
    """The loss of mixed features, and its gradient."""
    x, labels = make_batch(len(maps))
    maps = maps.clone().requires_grad_()
    loss = criterion.mixed_loss(x, labels, lam=LAM, source=maps, encode=head)
    loss.backward()
    return [float(loss.detach()), *maps.grad.flatten().tolist()]


def by_definition(maps: Tensor, head: Callable[[Tensor], Tensor]) -> list[float]:
    """The same with every mix encoded: Eq. (9) to the letter."""
    x, labels = make_batch(len(maps))
    maps = maps.clone().requires_grad_()
    loss = make_loss("MultiSimilarityLoss")
    value = mx.reference.mixed_loss(loss, x, labels, "pos-neg", LAM, source=maps, encode=head)
    value.backward()
    return [float(value.detach()), *maps.grad.flatten().tolist()]


def feature_criterion() -> mx.Metrix:
    return mx.Metrix(make_loss("MultiSimilarityLoss"), mix="feature", pairs="pos-neg")


# ---- large maps -------------------------------------------------------------------------------------------


def large_maps(size: tuple[int, int]) -> Tensor:
    """The largest values are in the last row, where a position of 16 bits is negative."""
    maps = make_maps(8, size)
    maps[:, :, -1] += 9.0
    return maps


def of_last_row(made: list[float], size: tuple[int, int]) -> list[float]:
    """The loss, and the gradients of the last row."""
    gradient = torch.tensor(made[1:], dtype=torch.float64).reshape(8, CHANNELS, *size)
    return [made[0], *gradient[:, :, -1].flatten().tolist()]


def mixed_large_maps(pool: str, size: tuple[int, int]) -> list[float]:
    return of_last_row(mixed_and_gradient(feature_criterion(), large_maps(size), make_head(pool)), size)


@pytest.mark.parametrize(("pool", "size"), [("max", (182, 182)), ("avg+max", (4, 16385))])
def test_maps_of_more_positions_than_16_bits_hold(pool: str, size: tuple[int, int]) -> None:
    """Images as source of a head: the right loss, and gradients where the maxima are (the first of equal ones)."""
    expected = of_last_row(by_definition(large_maps(size), make_head(pool)), size)
    gave(isolated(mixed_large_maps, pool, size, seconds=60.0), expected, 1e-6)


# ---- heads that do more than the fused path ---------------------------------------------------------------


class Generalised(mx.heads.PoolingHead):
    """GeM in the place of the average."""

    def average_pool(self, features: Tensor) -> Tensor:
        return features.clamp_min(1e-6).pow(3).mean((-2, -1)).pow(1 / 3)


class SoftMaximum(mx.heads.PoolingHead):
    def max_pool(self, features: Tensor) -> Tensor:
        return features.flatten(2).logsumexp(-1)


class OtherProject(mx.heads.PoolingHead):
    def project(self, features: Tensor) -> Tensor:
        return super().project(features).tanh()


class OtherForward(mx.heads.PoolingHead):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) + 0.5


class OtherNormalize(mx.heads.PoolingHead):
    def normalize(self, projected: Tensor) -> Tensor:
        return F.normalize(projected + 1.0)


class LowRank(nn.Linear):
    """A linear layer with an adapter of rank one (LoRA)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.sum(1, keepdim=True) * torch.arange(DIM, dtype=x.dtype)


def with_adapter(head: nn.Module) -> nn.Module:
    adapted = LowRank(CHANNELS, DIM).double()
    adapted.load_state_dict(head.linear.state_dict())
    head.linear = adapted
    return head


def with_mlp(head: nn.Module) -> nn.Module:
    head.linear = nn.Sequential(head.linear, nn.ReLU(), nn.Linear(DIM, DIM, bias=False).double().requires_grad_(False))
    nn.init.eye_(head.linear[2].weight)
    return head


def with_hook(kind: str, on_linear: bool) -> Callable[[nn.Module], nn.Module]:
    def change(head: nn.Module) -> nn.Module:
        module = head.linear if on_linear else head
        if kind == "forward":
            module.register_forward_hook(lambda _module, _inputs, output: output.sin())
        elif kind == "pre":
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].cos(),))
        else:
            module.register_full_backward_hook(lambda _module, grads, _out: tuple(2 * g for g in grads))
        return head

    return change


def pruned(head: nn.Module) -> nn.Module:
    """With weights that have changed since the layer ran last, as after a step of an optimiser."""
    prune.l1_unstructured(head.linear, "weight", 0.5)
    head(make_maps())
    with torch.no_grad():
        head.linear.weight_orig.add_(1.0)
    return head


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized(head: nn.Module) -> nn.Module:
    parametrize.register_parametrization(head.linear, "weight", Doubled())
    return head


def monkeypatched(head: nn.Module) -> nn.Module:
    head.forward = lambda features: F.normalize(head.project(features) + 2.0)
    return head


def of(cls: type) -> Callable[[nn.Module], nn.Module]:
    return lambda head: make_head(head.pool, cls=cls)


HEADS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "average_pool": of(Generalised),
    "max_pool": of(SoftMaximum),
    "project": of(OtherProject),
    "forward": of(OtherForward),
    "normalize": of(OtherNormalize),
    "linear is a subclass": with_adapter,
    "linear is an MLP": with_mlp,
    "forward hook": with_hook("forward", on_linear=False),
    "forward hook of linear": with_hook("forward", on_linear=True),
    "forward pre-hook": with_hook("pre", on_linear=False),
    "forward pre-hook of linear": with_hook("pre", on_linear=True),
    "backward hook": with_hook("backward", on_linear=False),
    "backward hook of linear": with_hook("backward", on_linear=True),
    "pruned": pruned,
    "weight_norm": lambda head: parametrizations.weight_norm(head.linear) and head,
    "parametrized": parametrized,
    "instance's forward": monkeypatched,
}


def mixed_through(name: str, pool: str) -> list[float]:
    return mixed_and_gradient(feature_criterion(), make_maps(), HEADS[name](make_head(pool)))


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
@pytest.mark.parametrize("name", HEADS)
def test_mixes_come_from_the_head_that_embeds(name: str, pool: str) -> None:
    """The fused path is for exactly what it computes; a head that does anything else is called."""
    expected = by_definition(make_maps(), HEADS[name](make_head(pool)))
    gave(isolated(mixed_through, name, pool), expected, 1e-8)


def warnings_of(head: nn.Module, calls: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(calls):
            mixed_and_gradient(feature_criterion(), make_maps(), head)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
def test_leaving_the_fused_path_is_said_once_for_a_head(pool: str) -> None:
    """In one line that names the class and what it overrides."""
    (message,) = warnings_of(make_head(pool, cls=OtherForward), calls=3)
    assert "\n" not in message and "OtherForward" in message and "forward" in message


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
def test_a_plain_head_is_no_reason_to_warn(pool: str) -> None:
    assert warnings_of(make_head(pool), calls=2) == []


# ---- tracing ----------------------------------------------------------------------------------------------


def traced(tracer: str, name: str, mix: bool) -> list[float]:
    """Traced with some embeddings, run on others."""
    loss = make_loss(name).requires_grad_(False)  # jit.trace takes proxies that learn only as a module's
    criterion: Any = mx.Metrix(loss, mix="embed", pairs="pos-neg", lam=LAM) if mix else loss
    x, labels = make_batch()
    other, _ = make_batch(seed=5)

    def call(x: Tensor) -> Tensor:
        return criterion(x, labels)

    graph = make_fx(call)(x) if tracer == "make_fx" else torch.jit.trace(call, (x,), check_trace=False)
    return [float(graph(other).detach()) for _ in range(3)]


def right_or_one_line(outcome: Outcome, expected: Any, *words: str) -> None:
    """Either the numbers, or a RuntimeError in one line that says what cannot be done."""
    if outcome.error is None:
        gave(outcome, expected)
    else:
        refused(outcome, *words, kinds=("RuntimeError",))


@pytest.mark.parametrize("mix", [False, True], ids=["clean", "mixed"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("tracer", ["make_fx", "jit.trace"])
def test_a_traced_loss_gives_the_numbers_of_other_inputs(tracer: str, name: str, mix: bool) -> None:
    """No memory of the time of tracing is in the graph. Where a tracer cannot see into the ops: one line."""
    loss = make_loss(name)
    other, labels = make_batch(seed=5)
    criterion: Any = mx.Metrix(loss, mix="embed", pairs="pos-neg", lam=LAM) if mix else loss
    expected = float(criterion(other, labels).detach())
    right_or_one_line(isolated(traced, tracer, name, mix, seconds=60.0), [expected] * 3, "trace")


def compiled_with_a_wrong_label(engine: str, name: str) -> float:
    x, labels = make_batch()
    labels[3] = 7
    return float(torch.compile(make_loss(name), backend=engine)(x, labels).detach())


@pytest.mark.parametrize("name", ["ProxyAnchorLoss", "ProxyNCALoss", "ProxyNCAPlusPlusLoss"])
@pytest.mark.parametrize("engine", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_loss_refuses_labels_beyond_the_proxies(engine: str, name: str) -> None:
    """Label 7 of 4 classes, also where the graph is compiled: an error about labels, whatever its class."""
    outcome = isolated(compiled_with_a_wrong_label, engine, name, seconds=200.0)
    assert outcome.died is None and outcome.error is not None, f"expected an error about labels, but {outcome}"
    assert "labels" in outcome.error[1], f"the message lacks 'labels': {outcome}"


# ---- a miner's indices ------------------------------------------------------------------------------------

ANCHORS, POSITIVES, NEGATIVES = torch.tensor([0, 1, 2]), torch.tensor([4, 5, 6]), torch.tensor([1, 2, 3])
PAIRS = ANCHORS, POSITIVES, ANCHORS, NEGATIVES


def loss_of_pairs(*indices: Any) -> float:
    x, labels = make_batch()
    return float(make_loss("MultiSimilarityLoss")(x, labels, indices))


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        pytest.param((ANCHORS, POSITIVES[:1], NEGATIVES), "3", id="a single positive for all anchors"),
        pytest.param((*PAIRS[:3], NEGATIVES[:1]), "3", id="a single negative for all anchors"),
        pytest.param((ANCHORS[:1], *PAIRS[1:]), "3", id="a single anchor for all positives"),
        pytest.param((ANCHORS, POSITIVES[:2], NEGATIVES), "2", id="two positives for three anchors"),
        pytest.param((ANCHORS, torch.tensor([1, 5, 6]), NEGATIVES), "1", id="a positive of another class"),
        pytest.param((ANCHORS, torch.tensor([0, 5, 6]), NEGATIVES), "0", id="an anchor as its own positive"),
        pytest.param((ANCHORS, POSITIVES, torch.tensor([4, 2, 3])), "4", id="a negative of the anchor's class"),
        pytest.param((ANCHORS, POSITIVES, torch.tensor([12, 2, 3])), "12", id="an index beyond the batch"),
        pytest.param((ANCHORS, POSITIVES, torch.tensor([-1, 2, 3])), "-1", id="a negative index"),
        pytest.param((ANCHORS, POSITIVES, NEGATIVES.float()), "float32", id="floats"),
        pytest.param((ANCHORS, POSITIVES, NEGATIVES > 1), "bool", id="a mask"),
        pytest.param((ANCHORS[None], POSITIVES[None], NEGATIVES[None]), "[1, 3]", id="two dimensions"),
        pytest.param((ANCHORS, POSITIVES, None), "None", id="None"),
    ],
)
def test_pairs_of_a_miner_that_cannot_be_meant_are_refused(indices: tuple[Any, ...], words: str) -> None:
    """On the CPU also what takes a look at the values; where pairs contradict the labels, one of both is wrong."""
    refused(attempt(lambda: loss_of_pairs(*indices)), "indices_tuple", words)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_indices_of_any_integer_type_are_indices(dtype: torch.dtype) -> None:
    """Also uint8, which PyTorch's indexing would read as a mask."""
    made = attempt(lambda: loss_of_pairs(*(t.to(dtype) for t in PAIRS)))
    gave(made, loss_of_pairs(*PAIRS))


def test_an_empty_tuple_of_a_miner_is_a_loss_of_zero() -> None:
    nobody = torch.empty(0, dtype=torch.int64)
    gave(attempt(lambda: loss_of_pairs(nobody, nobody, nobody, nobody)), 0.0)


def test_a_pair_with_references_may_have_equal_indices() -> None:
    """Embedding 0 and reference 0 are two examples."""
    x, labels = make_batch()
    references, _ = make_batch(seed=4)
    pairs = torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3])
    loss = make_loss("MultiSimilarityLoss")
    expected = float(mx.reference.clean_loss(loss, x, labels, pairs, references, labels))
    gave(attempt(lambda: float(loss(x, labels, pairs, references, labels))), expected)


assert CLASSES == 4  # the indices above are of classes 0, 1, 2, 3, 0, 1, ...
