"""An epoch: what is added up, and when it is looked at."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("torchvision")

from metrix_ext.losses import LossParts
from train.errors import Diverged
from train.training.loop import LOOKED_AT_EVERY, Meter


def parts(loss, clean, mixed=None):
    return LossParts(*(None if value is None else torch.tensor(value) for value in (loss, clean, mixed)))


def test_a_meter_adds_up_where_it_was_left():
    meter = Meter({"loss": 1.0, "clean": 0.5})
    meter.add(parts(3.0, 2.0, 4.0))
    meter.add(parts(5.0, 2.5, 1.0))
    assert not meter.is_due
    assert meter.look("an epoch") == 5.0
    assert meter.sums == {"loss": 9.0, "clean": 5.0, "mixed": 5.0}
    assert meter.look("an epoch") is None
    assert meter.sums["loss"] == 9.0


def test_it_is_looked_at_every_few_batches():
    meter = Meter({})
    for _ in range(LOOKED_AT_EVERY):
        assert not meter.is_due
        meter.add(parts(1.0, 1.0))
    assert meter.is_due


def test_a_value_that_is_no_number_ends_the_run():
    meter = Meter({})
    meter.add(parts(math.nan, 1.0))
    with pytest.raises(Diverged, match="the loss became nan in epoch 3: try a lower --lr"):
        meter.look("epoch 3")
