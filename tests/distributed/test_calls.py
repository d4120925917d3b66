"""GlobalBatch with all that a criterion takes, and how it ends where the ranks do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

import metrix_ext as mx
from tests.distributed import calls
from tests.support.compare import assert_close

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
)


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, calls.Part]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(calls.run_calls, (folder,), nprocs=len(calls.SIZES))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(len(calls.SIZES))]


@pytest.mark.parametrize("name", calls.CALLS)
def test_loss_and_gradients_are_those_of_one_process(of_ranks: list[dict[str, calls.Part]], name: str) -> None:
    """Maps and images of all ranks are on none: that is checked in the processes."""
    want = calls.CALLS[name](calls.Rows(0, sum(calls.SIZES)))
    assert want[0] != 0
    assert want[1].any()
    for found in of_ranks:
        assert_close(found[name], want, rtol=1e-10)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(calls.run_two, (folder,), nprocs=2)
    return folder


def test_the_generators_of_the_first_rank_alone_move(of_two: Path) -> None:
    for rank in range(2):
        torch.manual_seed(20 + rank)
        x = torch.randn(4, 3)
        if rank == 0:
            mx.Metrix(calls.LOSSES["ms"](), mix="embed", pairs=("pos-neg", "anc-neg"))(x, calls.LABELS)
        assert torch.equal(torch.load(of_two / f"{rank}.pt", weights_only=True), torch.rand(3))


def test_a_rank_that_does_not_come_is_no_hang(of_two: Path) -> None:
    message = (of_two / "late").read_text()
    assert "rank 0 of 2 does not hear from the others" in message
    assert "timeout of init_process_group" in message


def test_ranks_that_do_not_go_together(of_two: Path) -> None:
    """Both are told the same."""
    of_first, of_second = ((of_two / f"apart{rank}").read_text() for rank in range(2))
    assert of_first == of_second
    assert of_first.splitlines() == [
        "embeddings: got torch.float32 [n, 4] on rank 1, expected torch.float32 [n, 3] as on rank 0",
        "embeddings: got torch.float64 [n, 3] on rank 1, expected torch.float32 [n, 3] as on rank 0",
        "ref_emb: given on rank 1 otherwise than on rank 0, expected the same on all",
    ]
