"""Batch norm, frozen and synchronised."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.model import batch_norm


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)), nn.GroupNorm(2, 4))


@pytest.mark.parametrize("affine", [False, True])
def test_frozen_statistics_stay_and_other_layers_train(model, affine):
    model.train()
    batch_norm.freeze(model, affine)
    found = model(torch.randn(2, 3, 8, 8) + 5)
    found.sum().backward()
    for layer in (model[1], model[2][0]):
        assert torch.equal(layer.running_mean, torch.zeros(4))
        assert (layer.weight.grad is None) == (layer.bias.grad is None) == affine
    assert model[0].weight.grad is not None
    assert model[3].training and model[3].weight.requires_grad


def test_training_mode_takes_statistics_again(model):
    batch_norm.freeze(model.train())
    model.train()(torch.randn(2, 3, 8, 8) + 5)
    assert not torch.equal(model[1].running_mean, torch.zeros(4))


def test_synchronized_layers_are_the_same_tensors(model):
    state = model.state_dict(keep_vars=True)
    found = batch_norm.synchronized(model)
    assert [type(m) for m in batch_norm.layers(found)] == [nn.SyncBatchNorm] * 2
    assert all(tensor is state[name] for name, tensor in found.state_dict(keep_vars=True).items())


def test_frozen_layers_may_be_synchronized(model):
    found = batch_norm.synchronized(model).train()
    batch_norm.freeze(found)
    assert found(torch.randn(1, 3, 8, 8)).shape == (1, 4, 6, 6)  # needs no process group


def test_timms_layers_keep_their_activations():
    timm = pytest.importorskip("timm")
    model = timm.create_model("efficientnet_b0", num_classes=0).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        found = batch_norm.synchronized(model)
        assert all(isinstance(m, nn.SyncBatchNorm) for m in batch_norm.layers(found))
        torch.testing.assert_close(found.eval()(images), expected)
