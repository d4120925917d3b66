"""The learning rate over the epochs, and what learns when."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("matplotlib")

from train.errors import Diverged
from train.training import recipe


def test_learning_rate_steps():
    rates = [recipe.learning_rate(epoch, 1.0, 2, 0.5) for epoch in range(5)]
    assert rates == [1, 1, 0.5, 0.5, 0.25]
    assert recipe.learning_rate(50, 1.0, 0, 0.5) == 1
    assert recipe.learning_rate(2, 1.0, 1, 1e300) == float("inf")


def test_a_learning_rate_beyond_float32_ends_the_run():
    optimizer = recipe.make_optimizer(tiny_model(), torch.nn.Linear(2, 2), 0.1, 0.0, proxy_lr_factor=1e300)
    with pytest.raises(Diverged, match=r"the learning rate of the proxies became 1e\+299"):
        recipe.set_learning_rate(optimizer, 0.1)


def tiny_model():
    model = torch.nn.Module()
    model.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model.head = torch.nn.Linear(4, 2)
    return model


def test_warmup_trains_the_head_and_the_proxies_only():
    model, criterion = tiny_model(), torch.nn.Linear(2, 2)
    optimizer = recipe.make_optimizer(model, criterion, lr=0.1, weight_decay=0.0, proxy_lr_factor=50)
    recipe.set_learning_rate(optimizer, 0.01)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {
        "backbone": 0.01,
        "head": 0.01,
        "proxies": 0.5,
    }
    recipe.prepare_epoch(model, 0, warmup_epochs=1, freeze_bn=False)
    assert {p.requires_grad for p in model.backbone.parameters()} == {False}
    assert {p.requires_grad for p in model.head.parameters()} == {True}
    recipe.prepare_epoch(model, 1, warmup_epochs=1, freeze_bn=False)
    assert {p.requires_grad for p in model.backbone.parameters()} == {True}


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_batch_norm_keeps_its_statistics(freeze):
    model = tiny_model()
    recipe.prepare_epoch(model, 0, warmup_epochs=0, freeze_bn=freeze)
    model.backbone(torch.randn(2, 3, 8, 8) + 5)
    assert bool((model.backbone[1].running_mean == 0).all()) == freeze
