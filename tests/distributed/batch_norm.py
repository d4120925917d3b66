"""Networks with batch norm in two processes: by the statistics of both, and in what encodes mixes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

import metrix_ext as mx
from tests.distributed import calls
from tests.distributed.calls import Part, Rows
from tests.distributed.processes import CHANNELS, LOSSES, SIZE, batch

SIZES = (9, 4)


class OfAllProcesses(nn.Module):
    """What SyncBatchNorm computes, which itself takes no tensors of a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(0, 1).flatten(1).T
        count, total = all_reduce(torch.tensor(float(len(rows)))), all_reduce(rows.sum(0))
        centred = rows - total / count
        variance = all_reduce(centred.square().sum(0)) / count
        normalised = (centred / (variance + 1e-5).sqrt() * self.weight + self.bias).T
        return normalised.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


def network(norm: type[nn.Module]) -> calls.Network:
    made = calls.network()
    made.backbone = nn.Sequential(made.backbone, norm(CHANNELS), nn.ReLU()).double()
    return made


def step(norm: type[nn.Module], mix: str, rows: Rows) -> Part:
    model = network(norm)
    criterion: nn.Module = LOSSES["ms"]()
    arguments = {}
    images, labels = map(rows.of, batch())
    features = model.backbone(images)
    if mix != "none":
        criterion = mx.Metrix(criterion, mix=mix, pairs="pos-neg", strength=0.7)
        arguments = {"source": features, "encode": model.head}
    calls.seeded()
    value = calls.shared(criterion)(model.head(features), labels, **arguments)
    value.backward()
    return calls.averaged(value, model)


def run(rank: int, folder: Path) -> None:
    """Writes the steps with all kinds of mixes, and what is refused."""
    calls.meet(rank, folder, len(SIZES))
    begin = sum(SIZES[:rank])
    rows = Rows(begin, begin + SIZES[rank])
    torch.save({mix: step(OfAllProcesses, mix, rows) for mix in ("none", "embed", "feature")}, folder / f"{rank}.pt")
    (folder / f"refused{rank}").write_text("\n".join(refused(rows)))
    dist.destroy_process_group()


def refused(rows: Rows) -> Iterator[str]:
    """What is said of an encoder with SyncBatchNorm, in training mode and frozen, with GlobalBatch and without it."""
    encode = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), nn.SyncBatchNorm(CHANNELS), nn.Flatten(), nn.LazyLinear(SIZE))
    images, labels = map(rows.of, batch())
    encode.double().eval()(images)
    criterion = mx.Metrix(LOSSES["ms"](), mix="input", pairs="pos-neg")
    for called in (criterion, mx.distributed.GlobalBatch(criterion)):
        for training in (True, False):
            encode.train(training)
            try:
                called(torch.randn(len(labels), SIZE, dtype=torch.float64), labels, source=images, encode=encode)
                yield "accepted"
            except ValueError as error:
                yield str(error)
