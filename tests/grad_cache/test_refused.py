"""What GradCache does not take, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import metrix_ext as mx
from tests.grad_cache.networks import backbone, batch, criterion, head, loss


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"criterion": torch.mean}, TypeError, "criterion: got builtin_function_or_method, expected a torch.nn.Module"),
        ({"backbone": None}, TypeError, "backbone: got NoneType, expected a torch.nn.Module"),
        ({"head": torch.mean}, TypeError, "head: got builtin_function_or_method, expected a torch.nn.Module"),
        ({"micro_batch": 0}, ValueError, "micro_batch: got 0, expected a whole number of at least 1"),
        ({"micro_batch": 2.5}, TypeError, "micro_batch: got 2.5, expected a whole number of at least 1"),
        ({"scaler": 1024.0}, TypeError, "scaler: got float, expected a torch.amp.GradScaler"),
        ({"criterion": "feature", "head": None}, ValueError, "head: missing, mix='feature' needs it"),
    ],
)
def test_arguments(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    if arguments.get("criterion") == "feature":
        arguments = {**arguments, "criterion": criterion("ms", "feature")}
    with pytest.raises(error, match=words):
        mx.GradCache(**{"criterion": loss("ms"), "backbone": backbone(), "head": head(), **arguments})


def test_a_network_that_averages_its_gradients_itself(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        inside = nn.Sequential(DistributedDataParallel(backbone()))
        with pytest.raises(ValueError, match=r"backbone: is a DistributedDataParallel.*average_gradients after"):
            mx.GradCache(loss("ms"), inside, head())
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("images", [[1.0, 2.0], torch.tensor(1.0)])
def test_images(images: object) -> None:
    with pytest.raises(TypeError, match=r"images: got (list|a scalar), expected a tensor \[n, ...\]"):
        mx.GradCache(loss("ms"), backbone(), head())(images, batch()[1])


@pytest.mark.parametrize("given", ["source", "encode"])
def test_what_it_gives_itself(given: str) -> None:
    with pytest.raises(TypeError, match=f"{given}: given, but GradCache makes them"):
        mx.GradCache(criterion("ms", "feature"), backbone(), head())(*batch(), **{given: None})


class Returning(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> object:
        return self.value


@pytest.mark.parametrize("micro_batch", [5, 100])
@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        ((torch.ones(5, 2),), TypeError, "returned tuple, expected a tensor"),
        (torch.ones(3, 2), ValueError, r"returned \[3, 2\], expected (5|12) rows as images"),
    ],
)
def test_what_a_network_returns(returned: object, error: type[Exception], words: str, micro_batch: int) -> None:
    with pytest.raises(error, match=words):
        mx.GradCache(loss("ms"), Returning(returned), micro_batch=micro_batch)(*batch())
