"""The memory of several processes: all of them have the batches of all, and together the loss of all anchors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

import metrix_ext as mx
from tests.memory import processes
from tests.memory.by_hand import Queue
from tests.memory.processes import CRITERIA, IN_GLOBAL_BATCH, MEMORY_SIZE, PROCESSES, SIZES, in_global_batch
from tests.support import loop_oracle
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, DIM, leaf
from tests.support.loss_tests import gradients

Steps = list[dict[str, Any]]
every_criterion = pytest.mark.parametrize("name", CRITERIA)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes have written what they have computed."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(processes.run, (folder, 1), PROCESSES)
    return folder


@pytest.fixture
def of_ranks(folder: Path, name: str) -> list[Steps]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True)[name] for rank in range(PROCESSES)]


def one_process(name: str) -> tuple[list[list[Tensor]], Queue]:
    """By loops over the concatenated batches: value and gradients of each step from the second on, and the memory."""
    loss, pairs = CRITERIA[name]
    model, queue, taken = processes.model(), Queue(MEMORY_SIZE), []
    proxies = [leaf(parameter) for parameter in processes.criterion(name).parameters()]
    for step, (x, labels) in enumerate(processes.steps()):
        embeddings = model(x)
        places = queue.add(embeddings, labels)
        if step == 0:
            continue
        value = queue.expected(CASES[loss], embeddings, labels, places, pairs, *proxies)
        taken.append(gradients(value, [*model.parameters(), *proxies]))
    return taken, queue


@every_criterion
def test_mean_of_the_processes_like_a_loop_over_the_concatenated_batch(of_ranks: list[Steps], name: str) -> None:
    want, _ = one_process(name)
    for step, expected in enumerate(want, start=1):
        value = sum(steps[step]["value"] for steps in of_ranks) / PROCESSES
        for steps in of_ranks:  # the same gradients everywhere
            assert_close([value, *steps[step]["gradients"]], expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["ms", "contrastive", "pa"])
def test_before_the_start_each_has_the_loss_of_its_own_batch(of_ranks: list[Steps], name: str) -> None:
    loss, _ = CRITERIA[name]
    x, labels = processes.steps()[0]
    embeddings = processes.model()(x)
    proxies = list(processes.criterion(name).parameters())
    for steps, rows in zip(of_ranks, (slice(3), slice(3, 6)), strict=True):
        want = loop_oracle.clean_loss(CASES[loss].loss, embeddings[rows], labels[rows], *proxies)
        assert_close([steps[0]["value"]], [want], rtol=1e-10)


@every_criterion
def test_memories_are_the_same(of_ranks: list[Steps], name: str) -> None:
    _, queue = one_process(name)
    for here, there in zip(*of_ranks, strict=True):
        assert_same_bits(list(here["state"].values()), list(there["state"].values()))
    last = of_ranks[0][-1]["state"]
    assert_close([last["embeddings"]], [torch.stack(queue.rows)], rtol=1e-12)
    assert last["labels"].tolist() == queue.labels
    assert (int(last["position"]), int(last["filled"]), int(last["steps"])) == (queue.next, MEMORY_SIZE, len(SIZES))


def test_batches_that_are_gathered_already_are_not_gathered_again(folder: Path) -> None:
    memory = mx.memory.CrossBatchMemory(processes.criterion("ms"), DIM, MEMORY_SIZE)
    values = [memory(*step) for step in processes.steps()]
    for rank in range(PROCESSES):
        got = torch.load(folder / f"whole{rank}.pt", weights_only=True)
        assert_same_bits([*got["values"], *got["memory"]], [*values, *memory.buffers()])


@pytest.mark.parametrize("name", IN_GLOBAL_BATCH)
def test_in_a_global_batch_like_one_process_on_the_concatenated_batches(folder: Path, name: str) -> None:
    """Loss, parts, gradients and memory, also of one that goes on with what another has saved."""
    want = in_global_batch(name)
    for rank in range(PROCESSES):
        found = torch.load(folder / f"global{rank}.pt", weights_only=True)[name]
        for got, expected in zip(found, want, strict=True):
            assert_close(got, expected, rtol=1e-9)


def test_a_memory_in_a_global_batch_does_not_gather_once_more() -> None:
    memory = mx.memory.CrossBatchMemory(processes.criterion("ms"), DIM)
    with pytest.raises(ValueError, match="gathers the batches of all ranks itself"):
        mx.distributed.GlobalBatch(nn.Sequential(memory))


def test_batches_that_are_too_large_together(folder: Path) -> None:
    total = 2 * MEMORY_SIZE - 1
    for rank in range(PROCESSES):
        words = torch.load(folder / f"refusal{rank}.pt", weights_only=True)
        assert words == f"embeddings: got {total} in a batch, expected at most {MEMORY_SIZE} as memory_size"
