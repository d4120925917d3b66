"""Backbones yield the last feature map: what the network itself pools."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torchvision")

from torchvision import models

import metrix_ext as mx
from metrix_ext.heads import PoolingHead
from train.data.statistics import IMAGENET
from train.errors import UserError
from train.model import backbones
from train.model.backbones import tokens, vision

# A network of each of torchvision's ways to end: a function or a module that pools, a ReLU before it, a norm after it.
ONE_OF_EACH = (
    "resnet18", "densenet121", "googlenet", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5",
    "squeezenet1_1", "regnet_y_400mf", "swin_t", "convnext_tiny", "efficientnet_b0",
)  # fmt: skip


def pooled_by(network, images):
    """The average over positions that the network gives to the layers after it."""
    seen = []
    last = next(m for n, m in reversed(list(network.named_children())) if n in ("fc", "classifier", "head", "heads"))
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[0].mean((2, 3)) if seen[0].dim() == 4 else seen[0]


@pytest.mark.parametrize("arch", ONE_OF_EACH)
def test_the_map_is_what_the_network_pools(arch):
    network = vision.untrained(arch, 64).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = pooled_by(network, images), vision.trunk(network).eval()(images)
    torch.testing.assert_close(found.mean((2, 3)), expected)


@pytest.mark.parametrize(("arch", "channels"), [("resnet18", 512), ("resnet50", 2048), ("mobilenet_v3_small", 576)])
def test_the_channels_are_found(arch, channels):
    backbone = backbones.build(arch, "none", 32)
    assert backbone.channels == channels
    assert backbone.module.training


def test_finding_the_channels_computes_nothing_and_changes_nothing():
    backbone = backbones.build("small", "none", 32)
    before = {name: t.clone() for name, t in backbone.module.state_dict().items()}
    shape = backbones.backbone.feature_map(backbone.module, 32).shape
    assert shape == backbone.module(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 4, 4)
    backbone = backbones.build("small", "none", 32)
    backbones.backbone.feature_map(backbone.module, 32)
    assert all(bool((t == 0).all()) for name, t in backbone.module.state_dict().items() if "running_mean" in name)
    assert before.keys() == backbone.module.state_dict().keys()


@pytest.mark.parametrize("kind", ["map", "class"])
def test_tokens_of_torchvisions_transformer(kind):
    torch.manual_seed(0)
    network = models.VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        first = pooled_by(network, images)
        found = vision.Tokens(network, kind).eval()(images)
        encoded = network.encoder(torch.cat([network.class_token.expand(2, -1, -1), network._process_input(images)], 1))
    if kind == "class":
        torch.testing.assert_close(found, first[:, :, None, None])
    else:
        assert found.shape == (2, 8, 4, 4)
        torch.testing.assert_close(found[:, :, 2, 3], encoded[:, 1 + 2 * 4 + 3])


def test_tokens_become_a_map_row_by_row():
    sequence = torch.arange(2 * 11 * 3).reshape(2, 11, 3)
    found = tokens.as_map(sequence, "map", prefix=2)
    assert found.shape == (2, 3, 3, 3)
    assert torch.equal(found[1, :, 1, 2], sequence[1, 2 + 1 * 3 + 2])
    assert torch.equal(tokens.as_map(sequence, "class", prefix=2), sequence[:, 0, :, None, None])


def test_statistics():
    assert backbones.build("resnet18", "none", 32).statistics == IMAGENET
    assert vision.statistics("googlenet").mean == vision.statistics("googlenet").std == (0.5, 0.5, 0.5)


def test_googlenets_statistics_are_those_that_it_makes_of_the_others():
    network = models.googlenet(weights=None, transform_input=True, init_weights=False, aux_logits=False)
    image, imagenet, own = torch.rand(1, 3, 4, 4), IMAGENET, vision.statistics("googlenet")

    def normalised(statistics):
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (statistics.mean, statistics.std))
        return (image - mean) / std

    torch.testing.assert_close(network._transform_input(normalised(imagenet)), normalised(own))


@pytest.mark.parametrize(
    ("arch", "size", "words"),
    [
        ("resnet5", 32, "torchvision has no resnet5: perhaps resnet50 or"),
        ("no-such-thing", 32, "torchvision has no no-such-thing$"),
        ("vit_b_16", 40, "--arch vit_b_16 takes no images of 40 pixels .*divisible"),
        ("maxvit_t", 64, "--arch maxvit_t takes no images of 64 pixels"),
        ("alexnet", 16, "--arch alexnet takes no images of 16 pixels"),
    ],
)
def test_what_cannot_be_built(arch, size, words):
    with pytest.raises(UserError, match=words):
        backbones.build(arch, "none", size)


@pytest.mark.parametrize("kind", ["map", "class"])
def test_tokens_are_mixed_as_feature_maps(kind):
    torch.manual_seed(0)
    network = models.VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16)
    module, head = vision.Tokens(network, kind), PoolingHead(8, 4)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    features = module(torch.rand(6, 3, 32, 32))
    loss = mx.Metrix(mx.losses.ContrastiveLoss(), mix="feature", lam=0.3)
    found = loss.mixed_loss(head(features), labels, source=features, encode=head)
    whole = loss.mixed_loss(head(features), labels, source=features, encode=lambda mixes: head(mixes))
    torch.testing.assert_close(found, whole)
    found.backward()
    assert network.conv_proj.weight.grad.abs().sum() > 0
    if kind == "class":  # the mix of two vectors, as `tokens` says
        first, second = features[:1], features[1:2]
        mix = 0.3 * head.project(first) + 0.7 * head.project(second)
        torch.testing.assert_close(head(0.3 * first + 0.7 * second), torch.nn.functional.normalize(mix))
