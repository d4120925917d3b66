"""The wrappers of pytorch-metric-learning around the criteria of this package."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

import metrix_ext as mx
from tests.memory.by_hand import LAM, STRENGTH, Queue, batches
from tests.mixing.against_loops import every_set, metrix
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, DIM, leaf, some_triplets
from tests.support.loss_tests import PROXY_CASES, Build, default_case, gradients, pair_case, random_batch

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import losses, miners, regularizers  # noqa: E402
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper  # noqa: E402

from metrix_ext.pytorch_metric_learning import MetricLossFunction  # noqa: E402
from tests.wrappers import processes  # noqa: E402

SIZES = [4, 3, 5, 2, 7, 2]  # not 1, of which their memory (2.9) takes the copy for a positive


def mixing(loss: nn.Module, pairs: str | None) -> nn.Module:
    return loss if pairs is None else metrix(loss, pairs=pairs, strength=STRENGTH, lam=LAM)


@default_case
def test_alone_it_is_the_criterion(build: Build, name: str) -> None:
    loss = build(CASES[name])
    x, labels = random_batch(8)
    assert_same_bits([MetricLossFunction(loss)(x, labels)], [loss(x, labels)])
    criterion = metrix(loss, strength=STRENGTH, lam=LAM)
    assert_close([MetricLossFunction(criterion)(x, labels)], [criterion(x, labels)], rtol=1e-13)


@pair_case
def test_their_memory_around_losses(build: Build, name: str) -> None:
    check_their_memory(build(CASES[name]), name, None)


@every_set
def test_their_memory_around_metrix(build: Build, pairs: str) -> None:
    check_their_memory(build(CASES["ms"]), "ms", pairs)


def check_their_memory(loss: nn.Module, name: str, pairs: str | None) -> None:
    memory = losses.CrossBatchMemory(MetricLossFunction(mixing(loss, pairs)), DIM, memory_size=7)
    queue = Queue(7)
    for x, labels in batches(SIZES):
        got = memory(x, labels)
        want = queue.expected(CASES[name], x, labels, queue.add(x, labels), pairs)
        assert_close(gradients(got, [x]), gradients(want, [x]), rtol=1e-10)


@pytest.mark.parametrize("name", PROXY_CASES)
@pytest.mark.parametrize("pairs", [None, "anc-neg"])
def test_their_memory_leaves_proxies_alone(build: Build, name: str, pairs: str | None) -> None:
    criterion = mixing(build(CASES[name]), pairs)
    memory = losses.CrossBatchMemory(MetricLossFunction(criterion), DIM, memory_size=7)
    for x, labels in batches(SIZES):
        assert_close([memory(x, labels)], [criterion(x, labels)], rtol=1e-13)


@default_case
@pytest.mark.parametrize("pairs", [None, "pos-neg"])
def test_self_supervised(build: Build, name: str, pairs: str | None) -> None:
    """Of two views, each the positive of the other."""
    criterion = mixing(build(CASES[name]), pairs)
    one, other = (leaf(random_batch(4, seed=seed)[0]) for seed in (1, 2))
    labels = torch.arange(4)
    both = losses.SelfSupervisedLoss(MetricLossFunction(criterion))(one, other)
    want = criterion(torch.cat((one, other)), labels.repeat(2))
    assert_close(gradients(both, [one, other]), gradients(want, [one, other]), rtol=1e-12)
    first = losses.SelfSupervisedLoss(MetricLossFunction(criterion), symmetric=False)(one, other)
    references = {} if name in PROXY_CASES else {"ref_emb": other, "ref_labels": labels}
    want = criterion(one, labels, **references)
    assert_close(gradients(first, [one, other]), gradients(want, [one, other]), rtol=1e-12)


def test_distributed_wrapper_of_one_process() -> None:
    x, labels = random_batch(8)
    criterion = mx.Metrix(mx.losses.MultiSimilarityLoss(), mix="embed", lam=LAM, pairs="pos-neg")
    with pytest.warns(UserWarning, match="non-distributed"):
        value = DistributedLossWrapper(MetricLossFunction(criterion))(x, labels)
    assert_close([value], [criterion(x, labels)], rtol=1e-13)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes have written what they have computed."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(processes.run, (folder,), processes.PROCESSES)
    return folder


@pytest.mark.parametrize("name", processes.criteria())
def test_distributed_wrapper_of_two_processes(folder: Path, name: str) -> None:
    """The wrapper multiplies by the number of processes, as the mean over them is taken of the gradients."""
    of_ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes.PROCESSES)]
    criterion = processes.criteria()[name]
    x, labels = processes.batch()
    x = leaf(x)
    value, gradient = gradients(criterion(x, labels), [x])
    for rank, of_rank in enumerate(of_ranks):
        want = [processes.PROCESSES * part for part in (value, gradient.chunk(processes.PROCESSES)[rank])]
        assert_close(of_rank[f"{name}, all"], want, rtol=1e-10)

    def efficient(rank: int) -> list[torch.Tensor]:
        own = slice(4 * rank, 4 * rank + 4)
        compared = {"ref_emb": x, "ref_labels": labels, "ref_self": torch.arange(8)[own]}
        of_rank = criterion(x[own], labels[own], **({} if "proxies" in name else compared))
        return gradients(processes.PROCESSES * of_rank, [x])

    for rank, of_rank in enumerate(of_ranks):
        value, gradient = efficient(rank)
        assert_close(of_rank[f"{name}, efficient"], [value, gradient[4 * rank : 4 * rank + 4]], rtol=1e-10)
    for rank, of_rank in enumerate(of_ranks):
        # The memory of a first batch has what the batch has, in the order of this rank.
        bank, bank_labels = (part.roll(-4 * rank, 0) for part in (x.detach(), labels))
        mine, own_labels = leaf(bank), bank_labels
        compared = {"ref_emb": bank, "ref_labels": bank_labels, "ref_self": torch.arange(8)}
        want = criterion(mine, own_labels, **({} if "proxies" in name else compared))
        value, gradient = gradients(processes.PROCESSES * want, [mine])
        assert_close(of_rank[f"{name}, memory"], [value, gradient[:4]], rtol=1e-10)


def test_miners_and_several_losses(build: Build) -> None:
    x, labels = random_batch(8)
    multi, proxies = build(CASES["ms"]), build(CASES["pa"])
    criterion = metrix(multi, lam=LAM)
    several = losses.MultipleLosses([MetricLossFunction(criterion), MetricLossFunction(proxies)], weights=[1, 0.5])
    mined = miners.MultiSimilarityMiner()(x, labels)
    assert_close([several(x, labels, mined)], [criterion(x, labels, mined) + 0.5 * proxies(x, labels)], rtol=1e-12)
    triplets = some_triplets(labels)
    assert_close([MetricLossFunction(multi)(x, labels, triplets)], [multi(x, labels, triplets)], rtol=1e-12)


def test_regularizer_is_added(build: Build) -> None:
    loss = build(CASES["ms"])
    x, labels = random_batch(8)
    regular = MetricLossFunction(loss, regularizers.LpRegularizer(), embedding_reg_weight=0.1)
    assert_close([regular(x, labels)], [loss(x, labels) + 0.1 * x.norm(dim=1).mean()], rtol=1e-12)


def test_name_is_known_to_the_wrappers_and_nobody_else(build: Build) -> None:
    adapted = MetricLossFunction(build(CASES["pa"]))
    for wrapper in (losses.CrossBatchMemory, losses.SelfSupervisedLoss):
        assert type(adapted).__name__ in wrapper.supported_losses()
    assert repr(adapted).startswith("MetricLossFunction(")
    assert repr(type(adapted)) == "<class 'metrix_ext.pytorch_metric_learning.MetricLossFunction'>"
    x, labels = random_batch(8)
    for copied in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert_same_bits([copied(x, labels)], [adapted(x, labels)])


def test_learns_the_proxies(build: Build) -> None:
    loss = build(CASES["pa"])
    memory = losses.CrossBatchMemory(MetricLossFunction(loss), DIM)
    assert [parameter is loss.proxies for parameter in memory.parameters()] == [True]


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (losses.NTXentLoss(), "criterion: got NTXentLoss, expected a loss of metrix_ext.losses or Metrix"),
        (
            mx.Metrix(mx.losses.NCALoss(), mix=("embed", "feature")),
            "criterion: mixes embed, feature, but wrappers pass on embeddings: expected mix='embed'",
        ),
    ],
)
def test_criteria_that_cannot_be_wrapped(criterion: nn.Module, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        MetricLossFunction(criterion)


def test_labels_are_needed(build: Build) -> None:
    with pytest.raises(TypeError, match="labels: got NoneType, expected integers"):
        MetricLossFunction(build(CASES["ms"]))(random_batch(8)[0])


def test_library_is_imported_only_with_the_adapter() -> None:
    code = "import sys, metrix_ext; sys.exit('pytorch_metric_learning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", missing)
    monkeypatch.delitem(sys.modules, "metrix_ext.pytorch_metric_learning")
    with pytest.raises(ImportError, match=r"pip install 'metrix_ext\[pytorch-metric-learning\]'"):
        importlib.import_module("metrix_ext.pytorch_metric_learning")
