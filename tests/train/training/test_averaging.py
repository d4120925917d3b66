"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.training.averaging import MovingAverage


def moved(model, by):
    with torch.no_grad():
        for tensor in (*model.parameters(), model[1].running_mean, model[1].running_var):
            tensor.add_(by)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_it_follows_weights_and_statistics(model):
    average = MovingAverage(model, 0.75)
    average.update_parameters(model)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        moved(model, 1.0)
        average.update_parameters(model)
    behind = 0.75 * 0.25 + 0.25 * 2  # of a start at 0, after updates at 1 and 2
    for name, tensor in average.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, start[name] + behind)
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_the_first_update_copies(model):
    average = MovingAverage(model, 0.9)
    moved(model, 1.0)
    average.update_parameters(model)
    torch.testing.assert_close(average.module[0].weight, model[0].weight, check_stride=True)


def test_a_stored_average_goes_on_as_the_first_would_have(model, tmp_path):
    average = MovingAverage(model, 0.9)
    average.update_parameters(model)
    torch.save(average.state_dict(), tmp_path / "s.pt")
    again = MovingAverage(model, 0.9)
    again.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    moved(model, 1.0)
    for one in (average, again):
        one.update_parameters(model)
    assert torch.equal(average.module[0].weight, again.module[0].weight)
    assert not torch.equal(again.module[0].weight, model[0].weight)


@pytest.mark.parametrize("decay", [-0.1, 1.5, float("nan")])
def test_a_decay_that_is_none(model, decay):
    with pytest.raises(ValueError, match=f"decay: got {decay}, expected a number from 0 to 1"):
        MovingAverage(model, decay)
