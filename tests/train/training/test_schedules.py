"""The learning rate over the epochs."""

from __future__ import annotations

import pytest
import torch

from train.training import schedules

LR = torch.optim.lr_scheduler


def rates_of_torch(make, epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (lambda epoch: schedules.step(epoch, 3, 0.5), lambda o: LR.StepLR(o, 3, 0.5)),
        (lambda epoch: schedules.multi_step(epoch, (7, 2), 0.1), lambda o: LR.MultiStepLR(o, [2, 7], 0.1)),
        (lambda epoch: schedules.cosine(epoch, 10), lambda o: LR.CosineAnnealingLR(o, 10)),
    ],
)
def test_they_are_torchs(ours, torchs):
    assert [ours(epoch) for epoch in range(10)] == pytest.approx(rates_of_torch(torchs, 10))


def test_a_step_of_0_keeps_the_rate():
    assert schedules.step(50, 0, 0.5) == 1


def test_what_is_too_large_for_a_float_is_infinite():
    assert schedules.step(2, 1, 1e300) == schedules.multi_step(9, (1, 2), 1e300) == float("inf")
