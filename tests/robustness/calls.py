"""Every op and every public function as a function of named arguments, with valid ones: what the fuzz test spoils."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.ops.class_order import class_order
from metrix_ext.ops.gram import gram
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.ops.pair_lambda import pair_lambda
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.ops.product import product
from metrix_ext.ops.unit_rows import unit_rows
from metrix_ext.terms.formula import Formula, Rho, Sigma
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.relations import Relations

from .support import CHANNELS, CLASSES, DIM, EXAMPLES, make_batch, make_head, make_loss, make_maps

RHO = Rho(-2.0, 1.0), Rho(3.0, -1.0)
FORMULA = Formula(RHO, (Sigma("log1p", 0.5), Sigma("log1p")))


@dataclass(frozen=True)
class Call:
    """A function of named arguments.

    Attributes:
        run: takes the arguments and gives a tensor, tensors or numbers.
        make: valid arguments from a seed.
    """

    run: Callable[..., Any]
    make: Callable[[int], dict[str, Any]]


def outputs_and_gradients(call: Call, arguments: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """What a call gives, and the gradients of the squares of its finite numbers with respect to all float arguments."""
    leaves = {n: a.detach().requires_grad_() for n, a in arguments.items() if _has_gradient(a)}
    outputs = tensors_of(call.run(**{**arguments, **leaves}))
    wanted = [t for t in outputs if t.requires_grad]
    if not wanted or wanted[0].device.type == "meta":
        return [t.detach() for t in outputs], []
    total = sum(torch.where(t.detach().isfinite(), t, torch.zeros_like(t)).double().square().sum() for t in wanted)
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return [t.detach() for t in outputs], [g for g in gradients if g is not None]


def _has_gradient(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype.itemsize > 1


def tensors_of(result: Any) -> list[Tensor]:
    """What a call gives as a list of tensors."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, Relations):
        return [result.positives, result.self_index]
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in tensors_of(part)]
    if isinstance(result, dict):
        return tensors_of([result[key] for key in sorted(result)])
    return [torch.tensor(result, dtype=torch.float64)]


# ---- the ops ----------------------------------------------------------------------------------------------


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _sorted_relations(masked: bool) -> dict[str, Any]:
    labels = (torch.arange(EXAMPLES) % CLASSES).sort().values
    relations = Relations.from_labels(labels, labels, torch.arange(EXAMPLES))
    mask = relations.dense(EXAMPLES) if masked else None
    return {"positives": relations.positives, "self_index": relations.self_index, "mask": mask}


def _similarities(seed: int) -> Tensor:
    x = F.normalize(torch.randn(EXAMPLES, DIM, generator=_generator(seed), dtype=torch.float64))
    return x @ x.T


def _pair_sums_arguments(pairs: str, masked: bool = False) -> Callable[[int], dict[str, Any]]:
    def make(seed: int) -> dict[str, Any]:
        similarity = _similarities(seed)
        given: dict[str, Any] = {"similarity": similarity, **_sorted_relations(masked), "pairs": pairs}
        if pairs != "clean":
            lam = torch.rand(EXAMPLES, EXAMPLES, generator=_generator(seed + 1), dtype=torch.float64)
            given |= {"lam": lam, "gram": similarity.clone(), "first_row": 0}
        if pairs.startswith("anc-"):
            own = similarity.diagonal().clone()
            given |= {"sqnorm": own, "self_similarity": own.clone(), "self_sqnorm": own.clone()}
        return given

    return make


def _pair_sums(positives: Tensor, self_index: Tensor, mask: Tensor | None, **given: Any) -> tuple[Tensor, ...]:
    sums, *_ = pair_sums(relations=Relations(positives, self_index, mask), rho=RHO, **given)
    return sums


def _list(seed: int) -> dict[str, Any]:
    first, second = torch.triu_indices(EXAMPLES, EXAMPLES, 1)
    mixes = Mixes.of(first, second, torch.rand(len(first), generator=_generator(seed), dtype=torch.float64), EXAMPLES)
    return dict(zip(("first", "second", "lam", "begin", "uses"), mixes.tensors, strict=True))


def _anchor_sums_arguments(seed: int) -> dict[str, Any]:
    listed = _list(seed)
    mixed = torch.randn(len(listed["lam"]), DIM, generator=_generator(seed + 1), dtype=torch.float64)
    anchors = F.normalize(torch.randn(EXAMPLES, DIM, generator=_generator(seed + 2), dtype=torch.float64))
    return {"mixed": mixed, "anchors": anchors, **_sorted_relations(False), **listed, "pairs": "pos-neg"}


def _anchor_sums(
    mixed: Tensor, anchors: Tensor, positives: Tensor, self_index: Tensor, mask: Any, pairs: str, **listed: Tensor
) -> Tensor:
    relations = Relations(positives, self_index, mask)
    sums, _ = anchor_sums(mixed, anchors, relations, RHO, pairs, Mixes(**listed), both_orders=True, normalize=True)
    return sums


def _mix_pool_arguments(seed: int) -> dict[str, Any]:
    order = torch.randperm(EXAMPLES, generator=_generator(seed))
    maps = make_maps(seed=seed)
    return {"features": maps, "order": order, "averages": maps.mean((2, 3)), **_list(seed + 1)}


def _mix_pool(features: Tensor, order: Tensor, averages: Tensor, **listed: Tensor) -> Tensor:
    return mix_pool(features, order, Mixes(**listed), averages)


OPS = {
    "class_order": Call(class_order, lambda seed: {"labels": torch.randperm(EXAMPLES, generator=_generator(seed)) % 5}),
    "unit_rows": Call(
        unit_rows,
        lambda seed: {"x": make_batch(seed=seed)[0], "order": torch.randperm(EXAMPLES, generator=_generator(seed))},
    ),
    "gram": Call(gram, lambda seed: {"x": make_batch(seed=seed)[0]}),
    "product": Call(product, lambda seed: {"a": make_batch(seed=seed)[0], "b": make_batch(seed=seed + 1)[0].T}),
    "mean_loss": Call(
        lambda sums, mixed, strength: mean_loss(sums, FORMULA, mixed, strength),
        lambda seed: {"sums": _similarities(seed)[:, :2], "mixed": _similarities(seed + 1)[:, :2], "strength": 0.4},
    ),
    "pair_lambda": Call(
        pair_lambda,
        lambda seed: {"seed": seed, "rows": torch.arange(5), "columns": torch.arange(3, 9), "alpha": 2.0},
    ),
    "pair_sums clean": Call(_pair_sums, _pair_sums_arguments("clean", masked=True)),
    "pair_sums pos-neg": Call(_pair_sums, _pair_sums_arguments("pos-neg", masked=True)),
    "pair_sums pos-neg of ranges": Call(_pair_sums, _pair_sums_arguments("pos-neg")),
    "pair_sums neg-neg": Call(_pair_sums, _pair_sums_arguments("neg-neg")),
    "pair_sums anc-neg": Call(_pair_sums, _pair_sums_arguments("anc-neg", masked=True)),
    "anchor_sums": Call(_anchor_sums, _anchor_sums_arguments),
    "mix_pool": Call(_mix_pool, _mix_pool_arguments),
}

# ---- the public functions ---------------------------------------------------------------------------------


def _batch_arguments(seed: int) -> dict[str, Any]:
    return dict(zip(("embeddings", "labels"), make_batch(seed=seed), strict=True))


def _loss(name: str) -> Call:
    return Call(lambda **given: make_loss(name)(**given), _batch_arguments)


def _with_references(seed: int) -> dict[str, Any]:
    references, labels = make_batch(seed=seed + 1)
    return {**_batch_arguments(seed), "ref_emb": references, "ref_labels": labels}


def _with_copies(seed: int) -> dict[str, Any]:
    return {**_with_references(seed), "ref_self": torch.arange(EXAMPLES), "seed": seed}


def _metrix_with_references(**given: Any) -> Tensor:
    return mx.Metrix(make_loss("MultiSimilarityLoss"), mix="embed", pairs="anc-neg")(**given)


def _mined(seed: int) -> dict[str, Any]:
    anchors = torch.randint(CLASSES, (7,), generator=_generator(seed))
    triplet = {"anchors": anchors, "positives": anchors + CLASSES, "negatives": (anchors + 1) % CLASSES}
    return {**_batch_arguments(seed), **triplet}


def _loss_of_mined(embeddings: Any, labels: Any, anchors: Any, positives: Any, negatives: Any) -> Tensor:
    return make_loss("MultiSimilarityLoss")(embeddings, labels, (anchors, positives, negatives))


def _metrix_embed(embeddings: Any, labels: Any, seed: Any, lam: Any, **options: Any) -> Tensor:
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="embed", pairs="pos-neg", lam=lam, **options)
    return criterion(embeddings, labels, seed=seed)


def _embed_arguments(lam: str) -> Callable[[int], dict[str, Any]]:
    def make(seed: int) -> dict[str, Any]:
        matrix = torch.rand(EXAMPLES, EXAMPLES, generator=_generator(seed), dtype=torch.float64)
        options = {"alpha": 2.0, "strength": 0.4, "hard_negatives": 3}
        return {**_batch_arguments(seed), "seed": seed, "lam": matrix if lam == "matrix" else 0.3, **options}

    return make


def as_parameter(value: Any) -> Any:
    return torch.nn.Parameter(value, requires_grad=value.is_floating_point()) if isinstance(value, Tensor) else value


def _metrix_through(pool: str) -> Call:
    def run(
        embeddings: Any, labels: Any, source: Any, weight: Any, bias: Any, workspace: Any, hard_negatives: Any
    ) -> Tensor:
        head = make_head(pool)
        head.linear.weight, head.linear.bias = (as_parameter(t) for t in (weight, bias))
        options = {"workspace": workspace, "hard_negatives": hard_negatives}
        criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="feature", pairs="pos-neg", lam=0.3, **options)
        return criterion(embeddings, labels, source=source, encode=head)

    def make(seed: int) -> dict[str, Any]:
        g = _generator(seed)
        layer = {"weight": torch.randn(DIM, CHANNELS, generator=g, dtype=torch.float64)}
        layer["bias"] = torch.randn(DIM, generator=g, dtype=torch.float64)
        maps = make_maps(seed=seed)
        return {**_batch_arguments(seed), "source": maps, **layer, "workspace": 10**6, "hard_negatives": 3}

    return Call(run, make)


def _metrix_input(embeddings: Any, labels: Any, source: Any, seed: Any) -> Tensor:
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="input", pairs="pos-neg")
    return criterion(embeddings, labels, source=source, encode=lambda x: x.flatten(1)[:, :DIM], seed=seed)


def _gallery(seed: int) -> dict[str, Any]:
    gallery, labels = make_batch(seed=seed + 1)
    return {**_batch_arguments(seed), "k": 3, "gallery": gallery, "gallery_labels": labels}


PUBLIC = {
    **{name: _loss(name) for name in ("LiftedStructureLoss", "MultiSimilarityLoss", "ProxyAnchorLoss", "ProxyNCALoss")},
    "ContrastiveLoss": Call(
        lambda margin, **given: make_loss("ContrastiveLoss", margin=margin, aggregate="mean-nonzero")(**given),
        lambda seed: {**_batch_arguments(seed), "margin": 0.2},
    ),
    "MultiSimilarityLoss, references": Call(_loss("MultiSimilarityLoss").run, _with_references),
    "MultiSimilarityLoss, mined": Call(_loss_of_mined, _mined),
    "Metrix embed": Call(_metrix_embed, _embed_arguments("number")),
    "Metrix embed, lam of pairs": Call(_metrix_embed, _embed_arguments("matrix")),
    "Metrix embed, references": Call(_metrix_with_references, _with_copies),
    "CrossBatchMemory": Call(
        lambda **given: mx.memory.CrossBatchMemory(make_loss("MultiSimilarityLoss"), DIM, EXAMPLES + 3)(**given),
        _batch_arguments,
    ),
    "Metrix feature, avg": _metrix_through("avg"),
    "Metrix feature, max": _metrix_through("max"),
    "Metrix feature, avg+max": _metrix_through("avg+max"),
    "Metrix input": Call(_metrix_input, lambda seed: {**_batch_arguments(seed), "source": make_maps(), "seed": seed}),
    "PoolingHead": Call(lambda features: make_head()(features), lambda seed: {"features": make_maps(seed=seed)}),
    "recall_at_k": Call(mx.retrieval.recall_at_k, lambda seed: {**_batch_arguments(seed), "k": 3}),
    "recall_at_k, gallery": Call(mx.retrieval.recall_at_k, _gallery),
    "map_at_r": Call(mx.retrieval.map_at_r, _batch_arguments),
    "r_precision, gallery": Call(
        mx.retrieval.r_precision, lambda seed: {name: value for name, value in _gallery(seed).items() if name != "k"}
    ),
    "nearest": Call(mx.retrieval.nearest, lambda seed: {"embeddings": make_batch(seed=seed)[0], "k": 3}),
    "utilization": Call(
        mx.retrieval.utilization,
        lambda seed: {name: make_batch(seed=seed + k)[0] for k, name in enumerate(("queries", "embeddings", "mixed"))},
    ),
}

CALLS = {**OPS, **PUBLIC}
