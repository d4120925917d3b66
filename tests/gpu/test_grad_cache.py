"""GradCache on a GPU: its generator, fp16 with a scaler, feature maps that are channels-last."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx
from tests.grad_cache.networks import backbone, batch, criterion, gradients_of, head
from tests.support.compare import assert_close, relative_error

DEVICE = torch.device("cuda")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")


def moved(mix: str, dtype: torch.dtype) -> tuple[list[nn.Module], Tensor, Tensor]:
    """Criterion, backbone and head, images and labels."""
    modules = [module.to(DEVICE, dtype) for module in (criterion("pa", mix), backbone(), head())]
    images, labels = batch()
    return modules, images.to(DEVICE, dtype, memory_format=torch.channels_last), labels.to(DEVICE)


def step(mix: str, micro_batch: int, dtype: torch.dtype = torch.float64, scale: float | None = None) -> list[Tensor]:
    """The loss and all gradients; with a scale under autocast to float16."""
    modules, images, labels = moved(mix, dtype)
    scaler = None if scale is None else torch.amp.GradScaler("cuda", init_scale=scale)
    torch.manual_seed(4)
    with torch.autocast("cuda", torch.float16, enabled=scale is not None):
        loss = mx.GradCache(*modules, micro_batch=micro_batch, scaler=scaler)(images, labels)
    return [loss, *(gradient / (scale or 1.0) for gradient in gradients_of(modules))]


@pytest.mark.parametrize("mix", ["none", "embed", "feature", "input"])
def test_micro_batches_are_one_piece(mix: str) -> None:
    assert_close(step(mix, 5), step(mix, 12), rtol=1e-9)


@pytest.mark.parametrize("mix", ["none", "embed", "feature", "input"])
def test_float16_with_a_scaler(mix: str) -> None:
    want = step(mix, 12, torch.float32)
    for got, exact in zip(step(mix, 5, torch.float32, scale=256.0), want, strict=True):
        assert relative_error(got, exact) < 0.02


def test_dropout_draws_the_same_again() -> None:
    modules, images, labels = moved("none", torch.float64)
    seen: list[Tensor] = []
    dropout = nn.Dropout(0.5)
    dropout.register_forward_hook(lambda module, inputs, output: seen.append(output.detach() == 0))
    mx.GradCache(modules[0], nn.Sequential(modules[1], dropout), modules[2], micro_batch=4)(images, labels)
    assert all(torch.equal(a, b) for a, b in zip(seen[:3], seen[3:], strict=True))
    assert not torch.equal(seen[0], seen[1])
