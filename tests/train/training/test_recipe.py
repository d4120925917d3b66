"""The learning rate over the epochs, and what learns when."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch

pytest.importorskip("matplotlib")

from train.errors import Diverged
from train.training import optimizers, recipe


def rates(epochs, **options):
    args = Namespace(**{"lr": 1.0, "lr_step": 2, "lr_gamma": 0.5, "schedule": "step", "epochs": 4, **options})
    return [recipe.learning_rate(args, epoch) for epoch in epochs]


def test_learning_rate_steps():
    assert rates(range(5)) == [1, 1, 0.5, 0.5, 0.25]
    assert rates([50], lr_step=0) == [1]
    assert rates(range(5), lr_step=(1, 3)) == [1, 0.5, 0.5, 0.25, 0.25]
    assert rates(range(4), schedule="cosine") == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert rates([2], lr_step=1, lr_gamma=1e300) == [float("inf")]


def test_a_learning_rate_beyond_float32_ends_the_run():
    groups = optimizers.parameter_groups(tiny_model(), torch.nn.Linear(2, 2), learning_rate=0.1, proxy_factor=1e300)
    optimizer = optimizers.make_optimizer("adamw", groups)
    with pytest.raises(Diverged, match=r"the learning rate of the proxies became 1e\+299"):
        optimizers.set_learning_rate(optimizer, 0.1)


def tiny_model():
    model = torch.nn.Module()
    model.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model.head = torch.nn.Linear(4, 2)
    return model


def test_warmup_trains_the_head_and_the_proxies_only():
    model, criterion = tiny_model(), torch.nn.Linear(2, 2)
    groups = optimizers.parameter_groups(model, criterion, learning_rate=0.1, proxy_factor=50)
    optimizer = optimizers.make_optimizer("adamw", groups)
    optimizers.set_learning_rate(optimizer, 0.01)
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
