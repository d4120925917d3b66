"""Calls of a criterion with what else it takes, by three processes and by one: losses and gradients of both."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.batch import chunked
from metrix_ext.distributed.ranks import Ranks
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.distributed.processes import CHANNELS, LOSSES, SIZE, Network, batch

SIZES = (6, 2, 5)
LABELS = torch.tensor([0, 0, 1, 1])
Part = list[Tensor]


class Rows(NamedTuple):
    """The rows of a process: all, or those of a rank."""

    begin: int
    end: int

    def of(self, x: Tensor) -> Tensor:
        return x[self.begin : self.end]


class PlainHead(nn.Module):
    """What no kernel stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(CHANNELS, SIZE)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(self.linear(features.mean((-2, -1)).tanh()))


def shared(criterion: nn.Module) -> nn.Module:
    return mx.distributed.GlobalBatch(criterion)  # of one process the criterion itself


def network(head: nn.Module | None = None) -> Network:
    torch.manual_seed(3)
    made = Network()
    made.head = head or made.head
    return made.double()


def mixed(
    loss: str = "ms",
    mix: str | tuple[str, ...] = "feature",
    pairs: str | tuple[str, ...] = "pos-neg",
    head: Callable[[], nn.Module] | None = None,
    backend: str | None = None,
    **options: object,
) -> Callable[[Rows], Part]:
    """A step with mixing."""

    def call(rows: Rows) -> Part:
        torch.manual_seed(4)
        criterion = mx.Metrix(LOSSES[loss](), mix=mix, pairs=pairs, **{"strength": 0.7, **options}).double()
        model = network(head and head())
        images, labels = map(rows.of, batch())
        features = model.backbone(images)
        source, encode = {"feature": features, "input": images}, {"feature": model.head, "input": model}
        seeded()
        with mx.use_backend(backend) if backend else nullcontext():
            value = shared(criterion)(model.head(features), labels, source=source, encode=encode)
        value.backward()
        return averaged(value, model, criterion)

    return call


def seeded() -> None:
    """Every rank draws something else than the first."""
    torch.manual_seed(11 + (dist.get_rank() if dist.is_initialized() else 0))


def averaged(value: Tensor, *modules: nn.Module) -> Part:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    if dist.is_initialized():
        mx.grad_cache.average_gradients(parameters)
    return [value.detach(), *(parameter.grad for parameter in parameters)]


def given_lambda(rows: Rows, mix: str = "feature") -> Part:
    """mixed_loss with a matrix that has no symmetry, by places in the global batch."""
    n = sum(SIZES)
    lam = torch.rand(n, n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    criterion, model = mx.Metrix(LOSSES["ms"](), mix=mix), network()
    images, labels = map(rows.of, batch())
    features = model.backbone(images)
    total = torch.zeros((), dtype=torch.float64)
    for pairs in ("pos-neg", "neg-neg", "anc-neg"):
        mixture = {"pairs": pairs, "lam": lam, "source": features, "encode": model.head}
        total = total + shared(criterion).mixed_loss(model.head(features), labels, **mixture)
    total.backward()
    return averaged(total, model)


def references(rows: Rows, pairs: str | None = None) -> Part:
    """Those of all ranks, one more on each than there are embeddings; some are mixed with each other or an anchor."""
    model, criterion = network(), LOSSES["ms"]()
    if pairs is not None:
        criterion = mx.Metrix(criterion, mix="embed", pairs=pairs, strength=0.7)
    images, labels = map(rows.of, batch())
    emb = model(images)
    sizes = [len(emb)] if dist.is_initialized() else SIZES  # of one process the rows of the ranks, in their order
    refs = torch.cat([torch.cat((x.roll(1, 1), x[:1] * x[:1])) for x in emb.split(sizes)])
    ref_labels = torch.cat([torch.cat((y, y[:1])) for y in labels.split(sizes)])
    seeded()
    value = shared(criterion)(emb, labels, ref_emb=refs, ref_labels=ref_labels)
    value.backward()
    return averaged(value, model)


def miner(rows: Rows, pairs: str | None = None) -> Part:
    """Every rank picks pairs among its own rows; of one process they are the same pairs. Some are mixed."""
    model = network()
    images, labels = map(rows.of, batch())
    sizes = [len(labels)] if dist.is_initialized() else SIZES
    begins = [sum(sizes[:rank]) for rank in range(len(sizes))]
    parts = [[index + begin for index in picked(own)] for begin, own in zip(begins, labels.split(sizes), strict=True)]
    indices = tuple(map(torch.cat, zip(*parts, strict=True)))
    criterion = LOSSES["contrastive"]()
    if pairs is not None:
        criterion = mx.Metrix(criterion, mix="embed", pairs=pairs, strength=0.7)
    seeded()
    value = shared(criterion)(model(images), labels, indices)
    value.backward()
    return averaged(value, model)


def picked(labels: Tensor) -> tuple[Tensor, ...]:
    """All positives, and negatives at every other place."""
    alike = labels[:, None] == labels
    positive, negative = alike & ~torch.eye(len(labels), dtype=torch.bool), ~alike
    negative[:, ::2] = False
    return (*positive.nonzero().T, *negative.nonzero().T)


def micro_batches(rows: Rows) -> Part:
    """A rank has three micro-batches, another one."""
    torch.manual_seed(4)
    criterion, model = mx.Metrix(LOSSES["pa"](), mix="feature", pairs="pos-neg").double(), network()
    step = mx.GradCache(shared(criterion), model.backbone, model.head, micro_batch=2)
    seeded()
    return averaged(step(*map(rows.of, batch())), model, criterion)


def in_chunks(rows: Rows, pairs: str) -> Part:
    """As if the similarities were large, where each chunk is of an anchor or a class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "LARGEST_WHOLE", 0)
        patch.setattr(chunked, "WORKSPACE", 1)
        return mixed(mix="embed", pairs=pairs, renormalize=True)(rows)


CALLS: dict[str, Callable[[Rows], Part]] = {
    **{f"embeddings {pairs}": mixed(mix="embed", pairs=pairs) for pairs in PAIR_SETS},
    **{f"renormalised {pairs}": mixed(mix="embed", pairs=pairs, renormalize=True) for pairs in PAIR_SETS},
    "hard negatives of embeddings": mixed(mix="embed", hard_negatives=2),
    "one lambda of embeddings": mixed(mix="embed", lam="batch"),
    "given lambda of embeddings": partial(given_lambda, mix="embed"),
    "references with each other": partial(references, pairs="pos-neg"),
    "references with anchors": partial(references, pairs="anc-neg"),
    "proxies with embeddings": mixed("pa", mix="embed", pairs="anc-neg"),
    "proxies with each other": mixed("proxynca++", mix="embed"),
    "anchors with proxies": mixed("proxynca++", mix="embed", pairs="anc-neg"),
    "mixed pairs of a miner": partial(miner, pairs="pos-neg"),
    "anchors in chunks": partial(in_chunks, pairs="anc-neg"),
    "classes in chunks": partial(in_chunks, pairs="pos-neg"),
    **{f"feature {pairs}": mixed(pairs=pairs) for pairs in ("anc-neg", "anc-pos", "neg-neg", "pos-pos")},
    "hard negatives": mixed(hard_negatives=2),
    "hard negatives of images": mixed(mix="input", hard_negatives=1),
    "hard negatives of anchors": mixed(pairs="anc-neg", hard_negatives=2),
    "average pool": mixed(head=lambda: mx.heads.PoolingHead(CHANNELS, SIZE, "avg")),
    "max pool": mixed(head=lambda: mx.heads.PoolingHead(CHANNELS, SIZE, "max")),
    "another head": mixed(head=PlainHead),
    "reference backend": mixed(backend="reference"),
    "chunks": mixed(workspace=1000),
    "one lambda": mixed(lam="batch"),
    "a number": mixed("contrastive", lam=0.3),
    "mixes and pairs are drawn": mixed(mix=("input", "feature", "embed"), pairs=("pos-neg", "anc-neg", "pos-pos")),
    "balanced": mixed(strength="balanced"),
    "balanced embeddings": mixed(mix="embed", strength="balanced"),
    "margins": mixed(mixed_margins=(0.4, -0.3)),
    "margins of embeddings": mixed(mix="embed", mixed_margins=(0.4, -0.3)),
    "proxies": mixed("pa", pairs=("neg-neg", "pos-neg")),
    "given lambda": given_lambda,
    "references": references,
    "miner": miner,
    "micro-batches": micro_batches,
}


@contextmanager
def no_maps_are_gathered() -> Iterator[None]:
    """Fails if a rank asks for maps or images of all."""
    plain = Ranks.all_gather

    def all_gather(self: Ranks, x: Tensor, sizes: object) -> Tensor:
        assert x.dim() < 4, f"gathered {list(x.shape)}"
        return plain(self, x, sizes)  # type: ignore[arg-type]

    Ranks.all_gather = all_gather  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ranks.all_gather = plain  # type: ignore[method-assign]


def meet(rank: int, folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)


def run_calls(rank: int, folder: Path) -> None:
    """Writes what every call gives."""
    meet(rank, folder, len(SIZES))
    begin = sum(SIZES[:rank])
    with no_maps_are_gathered():
        found = {name: call(Rows(begin, begin + SIZES[rank])) for name, call in CALLS.items()}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def run_two(rank: int, folder: Path) -> None:
    """What a rank draws after a loss; what it is told of a rank that does not go with it, and of one that is late."""
    meet(rank, folder, 2)
    impatient = dist.new_group(timeout=datetime.timedelta(seconds=2))
    torch.manual_seed(20 + rank)
    drawing = mx.Metrix(LOSSES["ms"](), mix="embed", pairs=("pos-neg", "anc-neg"))
    mx.distributed.GlobalBatch(drawing)(torch.randn(4, 3), LABELS)
    torch.save(torch.rand(3), folder / f"{rank}.pt")
    (folder / f"apart{rank}").write_text("\n".join(told_apart(rank)))
    told = folder / "late"
    while rank == 1 and not told.exists():
        time.sleep(0.05)
    if rank == 0:
        try:
            mx.distributed.GlobalBatch(LOSSES["ms"](), impatient)(torch.randn(4, 3), LABELS)
        except RuntimeError as error:
            told.write_text(str(error))


def told_apart(rank: int) -> Iterator[str]:
    """The errors where sizes, types and references of the ranks differ."""
    criterion, x = mx.distributed.GlobalBatch(LOSSES["ms"]()), torch.randn(4, 3)
    for embeddings, arguments in (
        (torch.randn(4, 3 + rank), {}),
        (x.to((torch.float32, torch.float64)[rank]), {}),
        (x.clone(), {} if rank == 0 else {"ref_emb": x, "ref_labels": LABELS}),
    ):
        try:
            criterion(embeddings, LABELS, **arguments)
        except ValueError as error:
            yield str(error)
