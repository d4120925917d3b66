"""GlobalBatch: several processes have the loss and the gradients of one process on all of their batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

import metrix_ext as mx
from tests.distributed import processes

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
)


def start(function, folder: Path, count: int, *arguments: object) -> None:
    torch.multiprocessing.spawn(function, (folder, *arguments), nprocs=count)


@pytest.fixture(scope="module")
def of_one_process():
    images, labels = processes.batch()
    return {
        case: processes.results(processes.objective(*case, is_global=False), images, labels) for case in processes.CASES
    }


@pytest.mark.parametrize(("count", "wrapped"), [(2, True), (4, False)], ids=["2, DDP", "4, averaged"])
def test_loss_and_gradients_are_those_of_one_process(of_one_process, tmp_path, count, wrapped):
    """Of ragged batches, one of which may be empty; lambda and sets of pairs are drawn by the first rank."""
    start(processes.run, tmp_path, count, processes.RAGGED[count], wrapped)
    for rank in range(count):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(found) >= 6
        for case, results in found.items():
            assert len(results) == len(of_one_process[case]), case
            for got, right in zip(results, of_one_process[case], strict=True):
                torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-11, msg=lambda m, c=case: f"{c}: {m}")


def test_a_rank_that_ends_is_no_hang(tmp_path):
    start(processes.run_and_die, tmp_path, 2)
    assert "rank 0 of 2 does not hear from the others" in (tmp_path / "message").read_text()


def test_a_rank_that_refuses_its_arguments_is_told_to_the_others(tmp_path):
    start(processes.run_and_refuse, tmp_path, 2)
    assert "rank 1 has refused its arguments" in (tmp_path / "message0").read_text()
    assert (tmp_path / "message1").read_text().startswith("ValueError: labels")


def test_of_one_process_it_is_the_criterion():
    x, labels = torch.randn(6, 4), torch.arange(6) // 2
    loss = mx.losses.MultiSimilarityLoss()
    assert torch.equal(mx.distributed.GlobalBatch(loss)(x, labels), loss(x, labels))
    assert torch.equal(mx.distributed.GlobalBatch(loss).parts(x, labels).clean, loss(x, labels))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"criterion: got function, expected a torch\.nn\.Module"):
        mx.distributed.GlobalBatch(lambda x, y: x)
