"""Groups of parameters, and the optimizers over them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.errors import Diverged
from train.training import optimizers


@pytest.fixture
def model():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model.head = nn.Linear(4, 2)
    return model


def groups_of(model, criterion, **options):
    return optimizers.parameter_groups(model, criterion, **{"learning_rate": 0.1, "weight_decay": 0.01, **options})


def test_each_part_has_its_own_rate(model):
    proxies = nn.ParameterList([torch.zeros(5, 2)])
    groups = groups_of(model, proxies, head_factor=10.0, proxy_factor=100.0)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("backbone", 0.1, 0.01), ("head", 1.0, 0.01), ("proxies", 10.0, 0.01),
    ]  # fmt: skip
    given = [p for group in groups for p in group["params"]]
    assert {id(p) for p in given} == {id(p) for part in (model, proxies) for p in part.parameters()}
    assert len(given) == len({id(p) for p in given})


def test_a_loss_without_parameters_has_no_group(model):
    assert [g["name"] for g in groups_of(model, nn.Identity())] == ["backbone", "head"]


def test_the_rate_changes_by_the_factors(model):
    optimizer = optimizers.make_optimizer("adamw", groups_of(model, nn.Linear(2, 2), head_factor=2, proxy_factor=50))
    optimizers.set_learning_rate(optimizer, 0.01)
    assert [g["lr"] for g in optimizer.param_groups] == [0.01, 0.02, 0.5]
    # Loading a state, as a resumed run does, leaves the factors where they are.
    optimizer.load_state_dict(optimizer.state_dict())
    optimizers.set_learning_rate(optimizer, 1.0)
    assert [g["lr"] for g in optimizer.param_groups] == [1, 2, 50]


def test_a_rate_beyond_float32_ends_the_run(model):
    optimizer = optimizers.make_optimizer("sgd", groups_of(model, nn.Linear(2, 2), proxy_factor=1e300))
    with pytest.raises(Diverged, match=r"the learning rate of the proxies became 1e\+299"):
        optimizers.set_learning_rate(optimizer, 0.1)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_two_steps_are_those_of_the_rule(name):
    """With weight decay, momentum and Adam's bias corrections, for a gradient of 0.5 at a weight of 2."""
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    group = {"name": "head", "params": [weight], "lr": 0.1, "factor": 1.0, "weight_decay": 0.5}
    optimizer = optimizers.make_optimizer(name, [group], momentum=0.8)
    w, m, v = 2.0, 0.0, 0.0
    for step in (1, 2):
        weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()
        gradient = 0.5 if name == "adamw" else 0.5 + 0.5 * w
        if name == "sgd":
            m = gradient if step == 1 else 0.8 * m + gradient
            w -= 0.1 * m
            continue
        w *= 1 - 0.1 * 0.5 if name == "adamw" else 1
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= 0.1 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)) ** 0.5 + 1e-8)
    assert weight.item() == pytest.approx(w, rel=1e-9)
