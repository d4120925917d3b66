"""Function transforms, tensor subclasses, modes, meta tensors: the right numbers, or one line.

Ops go through the dispatcher whenever a functorch level, a mode or a subclass is there. First gradients and vmap work,
as the ops have them; what needs a second derivative or forward mode ends in one line, as in eager mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

import metrix_ext as mx

from .support import LOSSES, Outcome, attempt, gave, isolated, make_batch, make_head, make_loss, make_maps, refused

PAIR_LOSSES = [(name, kind) for name in ("ContrastiveLoss", "MultiSimilarityLoss") for kind in ("clean", "embed")]
OF_FEATURES = [(name, kind) for name in ("ContrastiveLoss", "MultiSimilarityLoss") for kind in ("avg", "max")]
CASES = [*((name, kind) for name in LOSSES for kind in ("clean", "embed")), *OF_FEATURES]
every_loss = pytest.mark.parametrize(("name", "kind"), CASES)


def function_of(name: str, kind: str) -> Callable[[Tensor], Tensor]:
    """A loss as a function of the embeddings, or of the feature maps."""
    x, labels = make_batch()
    loss = make_loss(name)
    if kind == "clean":
        return lambda x: loss(x, labels)
    criterion = mx.Metrix(loss, mix="embed" if kind == "embed" else "feature", pairs="pos-neg", lam=0.3)
    if kind == "embed":
        return lambda x: criterion(x, labels)
    head = make_head(kind)
    return lambda maps: criterion(x, labels, source=maps, encode=head)


def inputs(kind: str, count: int = 3) -> list[Tensor]:
    if kind in ("clean", "embed"):
        return [make_batch(seed=seed)[0] for seed in range(count)]
    return [make_maps(seed=seed) for seed in range(count)]


def eager(name: str, kind: str, count: int = 3) -> tuple[list[float], list[list[float]]]:
    """Losses and gradients, one input after the other."""
    values, gradients = [], []
    for x in inputs(kind, count):
        x.requires_grad_()
        loss = function_of(name, kind)(x)
        (gradient,) = torch.autograd.grad(loss, x)
        values.append(float(loss.detach()))
        gradients.append(gradient.tolist())
    return values, gradients


# ---- torch.func -------------------------------------------------------------------------------------------


def func_grad(name: str, kind: str) -> list[float]:
    gradient, value = torch.func.grad_and_value(function_of(name, kind))(inputs(kind)[0])
    return [float(value), *gradient.flatten().tolist()]


@every_loss
def test_func_grad(name: str, kind: str) -> None:
    values, gradients = eager(name, kind, 1)
    gave(isolated(func_grad, name, kind), [*values, *torch.tensor(gradients, dtype=torch.float64).flatten().tolist()])


def func_vmap(name: str, kind: str) -> list[float]:
    return torch.func.vmap(function_of(name, kind))(torch.stack(inputs(kind))).tolist()


@every_loss
def test_vmap(name: str, kind: str) -> None:
    gave(isolated(func_vmap, name, kind), eager(name, kind)[0])


def vmap_of_grad(name: str, kind: str) -> list[Any]:
    return torch.func.vmap(torch.func.grad(function_of(name, kind)))(torch.stack(inputs(kind))).tolist()


@every_loss
def test_vmap_of_grad(name: str, kind: str) -> None:
    gave(isolated(vmap_of_grad, name, kind), eager(name, kind)[1])


def jacobian(name: str, kind: str) -> list[Any]:
    return torch.func.jacrev(function_of(name, kind))(inputs(kind)[0]).tolist()


@every_loss
def test_jacrev_of_a_scalar_is_its_gradient(name: str, kind: str) -> None:
    gave(isolated(jacobian, name, kind), eager(name, kind, 1)[1][0])


def batched_grads(name: str, kind: str) -> list[Any]:
    x = inputs(kind)[0].requires_grad_()
    loss = function_of(name, kind)(x)
    (gradients,) = torch.autograd.grad(loss, x, torch.tensor([1.0, 2.0], dtype=loss.dtype), is_grads_batched=True)
    return gradients.tolist()


@every_loss
def test_batched_grads(name: str, kind: str) -> None:
    (gradient,) = torch.tensor(eager(name, kind, 1)[1], dtype=torch.float64)
    gave(isolated(batched_grads, name, kind), torch.stack((gradient, 2 * gradient)).tolist())


def unsupported(transform: str, name: str, kind: str) -> Any:
    function, x = function_of(name, kind), inputs(kind)[0]
    if transform == "jvp":
        return [float(t) for t in torch.func.jvp(function, (x,), (torch.ones_like(x),))]
    if transform == "forward_ad":
        with torch.autograd.forward_ad.dual_level():
            return float(function(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))))
    if transform == "grad of grad":
        return torch.func.grad(lambda x: torch.func.grad(function)(x).square().sum())(x).tolist()
    return getattr(torch.func, transform)(function)(x).tolist()


@pytest.mark.parametrize(("name", "kind"), PAIR_LOSSES + OF_FEATURES)
@pytest.mark.parametrize("transform", ["jvp", "jacfwd", "hessian", "forward_ad", "grad of grad"])
def test_what_no_op_has_is_refused_in_one_line(transform: str, name: str, kind: str) -> None:
    """Forward mode and second derivatives: the line says that use_backend('reference') has them."""
    refused(isolated(unsupported, transform, name, kind), "metrix_ext", "reference", kinds=("RuntimeError",))


# ---- subclasses -------------------------------------------------------------------------------------------


class Tagged(torch.Tensor):
    """A subclass that changes nothing."""


class Wrapped(torch.Tensor):
    """A subclass that holds another tensor, and has no storage of its own (as quantised and distributed ones)."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bare = tree_map_only(Wrapped, lambda t: t.inner, (args, kwargs or {}))
        return tree_map_only(Tensor, Wrapped, func(*bare[0], **bare[1]))


def bare(tensor: Tensor) -> Tensor:
    return tensor.inner if isinstance(tensor, Wrapped) else tensor.as_subclass(torch.Tensor)


def of_subclass(subclass: str, name: str, kind: str, with_gradient: bool) -> list[Any]:
    make: Any = {"tagged": lambda x: x.as_subclass(Tagged), "wrapped": Wrapped, "parameter": torch.nn.Parameter}
    x = make[subclass](inputs(kind)[0])
    if not with_gradient:
        return [float(bare(function_of(name, kind)(x.detach())).detach())]
    x.requires_grad_()
    return bare(torch.autograd.grad(function_of(name, kind)(x), x)[0]).tolist()


@every_loss
@pytest.mark.parametrize("subclass", ["tagged", "wrapped", "parameter"])
def test_a_subclass_gives_the_numbers_of_its_contents(subclass: str, name: str, kind: str) -> None:
    values, gradients = eager(name, kind, 1)
    gave(isolated(of_subclass, subclass, name, kind, False), values)
    gave(isolated(of_subclass, subclass, name, kind, True), gradients[0])


def loss_of_strange(embeddings: str) -> float:
    x, labels = make_batch(dtype=torch.float32)
    strange: dict[str, Callable[[], Tensor]] = {
        "masked": lambda: torch.masked.masked_tensor(x, x > 0),
        "nested": lambda: torch.nested.nested_tensor([x[:3], x[:5]], layout=torch.jagged),
        "sparse": lambda: x.to_sparse(),
        "sparse rows": lambda: x.to_sparse_csr(),
        "float8": lambda: x.to(torch.float8_e4m3fn),
        "quantized": lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
        "mkldnn": lambda: x.to_mkldnn(),
        "complex": lambda: x.to(torch.complex64),
    }
    return float(make_loss("MultiSimilarityLoss")(strange[embeddings](), labels))


@pytest.mark.parametrize(
    "embeddings", ["masked", "nested", "sparse", "sparse rows", "float8", "quantized", "mkldnn", "complex"]
)
def test_embeddings_that_are_no_plain_matrix_of_floats_are_refused(embeddings: str) -> None:
    """A mask, a layout or a type that the losses have no meaning for: an error about embeddings."""
    refused(isolated(loss_of_strange, embeddings), "embeddings")


# ---- modes, meta and fake tensors -------------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    """Records the names of the ops that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@every_loss
def test_a_dispatch_mode_sees_the_ops_and_changes_no_number(name: str, kind: str) -> None:
    """Profilers, memory trackers and checkpoint policies are such modes: what passes them by is missing there."""
    values, gradients = eager(name, kind, 1)
    x = inputs(kind)[0].requires_grad_()
    with Recorder() as recorder:
        loss = function_of(name, kind)(x)
        (gradient,) = torch.autograd.grad(loss, x)
    gave(Outcome([float(loss.detach())]), values)
    gave(Outcome(gradient.tolist()), gradients[0])
    seen = [op for op in recorder.names if op.startswith("metrix_ext")]
    assert any("backward" in op for op in seen) and any("backward" not in op for op in seen), f"saw only {seen}"


def test_a_flop_counter_counts_a_loss_without_changing_it() -> None:
    with FlopCounterMode(display=False):
        made = function_of("MultiSimilarityLoss", "clean")(inputs("clean")[0])
    gave(Outcome([float(made)]), eager("MultiSimilarityLoss", "clean", 1)[0])


def on_meta(name: str, kind: str) -> tuple[str, list[int], str]:
    """The kinds of a loss and of a gradient with everything on the meta device."""
    x, labels = (t.to("meta") for t in make_batch())
    loss = make_loss(name).to("meta")
    x.requires_grad_()
    if kind == "clean":
        value = loss(x, labels)
    elif kind == "embed":
        value = mx.Metrix(loss, mix="embed", pairs="pos-neg", lam=0.3)(x, labels)
    else:
        criterion = mx.Metrix(loss, mix="feature", pairs="pos-neg", lam=0.3)
        value = criterion(x, labels, source=make_maps().to("meta"), encode=make_head(kind).to("meta"))
    value.backward()
    return str(value.device), list(value.shape), str(x.grad.device)


@every_loss
def test_meta_tensors_run_through_the_fakes(name: str, kind: str) -> None:
    """A scalar and a gradient on meta: shapes can be inferred without data."""
    outcome = isolated(on_meta, name, kind)
    assert outcome.value == ("meta", [], "meta"), f"expected a scalar on meta, but {outcome}"


def with_fakes(name: str, kind: str) -> tuple[str, list[int], list[int]]:
    function, mode = function_of(name, kind), FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        x = mode.from_tensor(inputs(kind)[0]).requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value, x)
        return type(value).__name__, list(value.shape), list(gradient.shape)


@every_loss
def test_fake_tensors_give_fake_losses(name: str, kind: str) -> None:
    outcome = isolated(with_fakes, name, kind)
    expected = ("FakeTensor", [], list(inputs(kind)[0].shape))
    assert outcome.value == expected, f"expected {expected}, but {outcome}"


# ---- the default device -----------------------------------------------------------------------------------


def drawn_under(device: str | None) -> list[float]:
    """Losses of several draws of a mix, a set of pairs and lambda, on CPU tensors."""
    x, labels = make_batch()
    maps = make_maps()
    head = make_head("max")
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix=("embed", "feature"), pairs=("pos-neg", "anc-neg"))
    torch.manual_seed(0)
    torch.set_default_device(device)
    draws = [criterion(x, labels, source={"feature": maps}, encode={"feature": head}) for _ in range(6)]
    return [float(loss.detach()) for loss in draws]


def test_drawing_uses_the_cpu_generator_under_another_default_device() -> None:
    """meta stands for cuda here: nothing can be drawn on it."""
    gave(isolated(drawn_under, "meta"), attempt(lambda: drawn_under(None)).value)


def built_under_a_default_device() -> float:
    x, labels = make_batch()
    torch.set_default_device("meta")
    loss = mx.Metrix(mx.losses.ContrastiveLoss(), mix="embed", pairs="neg-neg", lam="batch")
    return float(loss(x, labels, seed=0))


def test_constants_are_made_on_the_device_of_the_batch_not_on_the_default_one() -> None:
    outcome = isolated(built_under_a_default_device)
    x, labels = make_batch()
    right = mx.Metrix(mx.losses.ContrastiveLoss(), mix="embed", pairs="neg-neg", lam="batch")(x, labels, seed=0)
    gave(outcome, float(right))
