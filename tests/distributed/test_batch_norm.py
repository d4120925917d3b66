"""Batch norm by the statistics of all processes goes with the loss of the global batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from tests.distributed import batch_norm
from tests.distributed.calls import Rows
from tests.support.compare import assert_close

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(batch_norm.run, (folder,), nprocs=len(batch_norm.SIZES))
    return folder


@pytest.mark.parametrize("mix", ["none", "embed", "feature"])
def test_loss_and_gradients_are_those_of_one_process(folder: Path, mix: str) -> None:
    """Which has plain batch norm of the whole batch."""
    want = batch_norm.step(nn.BatchNorm2d, mix, Rows(0, sum(batch_norm.SIZES)))
    for rank in range(len(batch_norm.SIZES)):
        assert_close(torch.load(folder / f"{rank}.pt", weights_only=True)[mix], want, rtol=1e-9)


def test_mixes_are_not_encoded_with_statistics_of_all(folder: Path) -> None:
    """They would wait for each other for ever; frozen layers do not."""
    for rank in range(len(batch_norm.SIZES)):
        alone, alone_frozen, together, frozen = (folder / f"refused{rank}").read_text().splitlines()
        assert alone == together
        assert alone.startswith("encode: has SyncBatchNorm in training mode, which waits for all processes")
        assert alone_frozen == frozen == "accepted"
