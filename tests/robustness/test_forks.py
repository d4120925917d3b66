"""Forks of a process that has used the ops: workers of loaders, torch.multiprocessing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import metrix_ext as mx
from metrix_ext.ops.class_order import class_order
from metrix_ext.ops.gram import gram
from metrix_ext.ops.mix_pool import mix_pool
from metrix_ext.ops.pair_lambda import pair_lambda
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.ops.unit_rows import unit_rows
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.relations import Relations

from .support import gave, isolated, make_batch, make_loss, make_maps, work


def calls_of_ops() -> dict[str, Callable[[], Tensor]]:
    """Ops on inputs that are large enough for several threads."""
    x, labels = make_batch(512)
    x, order, index = x.repeat(1, 8), torch.arange(51_200), torch.arange(512)
    similarity, maps = x @ x.T / 100, make_maps(24, (7, 7))
    lam = similarity.abs()
    sorted_labels = labels.sort().values
    relations = Relations.from_labels(sorted_labels, sorted_labels, index)
    rho = Rho(-1.0), Rho(1.0)
    first, second = torch.triu_indices(24, 24, 1)
    mixes = Mixes.of(first, second, torch.full((len(first),), 0.3, dtype=torch.float64), 24)
    rows = x.repeat(100, 1)
    return {
        "class_order": lambda: class_order(labels)[0],
        "gram": lambda: gram(x),
        "unit_rows": lambda: unit_rows(rows, order),
        "pair_lambda": lambda: pair_lambda(0, index, index),
        "pair_sums clean": lambda: pair_sums(similarity, relations, rho)[0],
        "pair_sums anc-neg": lambda: pair_sums(similarity, relations, rho, "anc-neg", lam)[0],
        "mix_pool": lambda: mix_pool(maps, index[:24], mixes),
        "a loss": lambda: make_loss("ContrastiveLoss")(*make_batch(96)),
        "a mixed loss": lambda: mx.Metrix(make_loss("ContrastiveLoss"), "embed", "pos-neg", lam=0.3)(*make_batch(96)),
    }


def forked_after_use(name: str, threads: int) -> list[float]:
    """What a process gives, and what its fork gives afterwards; both with several threads."""
    torch.set_num_threads(threads)
    call = calls_of_ops()[name]
    before = float(call().view(-1)[-1].detach())
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(15)  # no child outlives the test
        os.write(write, str(float(call().view(-1)[-1].detach())).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        made = answer.read()
    os.waitpid(child, 0)
    return [before, float(made or "nan"), float(call().view(-1)[-1].detach())]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", calls_of_ops())
def test_an_op_in_a_fork_after_use_computes_on(name: str, threads: int) -> None:
    """OpenMP's threads are not in the child: it must not wait for them. The same number in parent, child, parent.

    PyTorch's own large operations do hang in such a child (with libgomp), so the inputs are made before the fork, and
    those of the whole losses are so small that PyTorch does not take threads for them.
    """
    outcome = isolated(forked_after_use, name, threads, seconds=40.0)
    assert outcome.died is None and outcome.error is None, str(outcome)
    assert outcome.value == [outcome.value[0]] * 3, "not a number: the child hung until its alarm"


class Losses(Dataset):
    """Examples that are losses: a data set whose workers run the ops, as one that mines or filters would."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        return work(self.kind)


def in_workers(kind: str, method: str) -> list[float]:
    torch.set_num_threads(4)
    before = work(kind)
    loader = DataLoader(Losses(kind), num_workers=2, multiprocessing_context=method, timeout=20)
    return [before, *(float(value) for value in loader)]


@pytest.mark.parametrize(
    ("kind", "method"), [("clean", "fork"), ("embed", "fork"), ("max", "fork"), ("retrieval", "fork")]
)
def test_workers_of_a_loader_after_use(kind: str, method: str) -> None:
    outcome = isolated(in_workers, kind, method, seconds=60.0)
    assert outcome.died is None and outcome.error is None, str(outcome)
    gave(outcome, [outcome.value[0]] * 5, 1e-5)
