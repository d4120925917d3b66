"""One batch: the loss in one piece or in micro-batches, its parts, what is clipped, the average of the weights."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

import metrix_ext as mx
from train.data.statistics import IMAGENET
from train.model.network import EmbeddingModel
from train.training.averaging import MovingAverage
from train.training.learner import Learner
from train.training.step import Settings, Step

SETTINGS = Settings(mix=(), miner=None, amp="none", micro_batch=None, clip_grad_value=0.0, clip_grad_norm=0.0)


def learner_of(mix=None, lr=0.1, average=None):
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU())
    model = EmbeddingModel(backbone, mx.heads.PoolingHead(6, 5), IMAGENET)
    loss = mx.losses.MultiSimilarityLoss()
    criterion = loss if mix is None else mx.Metrix(loss, mix=mix, pairs="pos-neg")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Learner(model, loss, criterion, optimizer, scaler, average and MovingAverage(model, average))


def batch():
    return torch.randn(12, 3, 9, 9, generator=torch.Generator().manual_seed(1)), torch.arange(12) // 3


def settings(**changed):
    return Settings(**{**SETTINGS.__dict__, **changed})


@pytest.mark.parametrize("mix", [None, "embed", "feature", "input"])
def test_micro_batches_are_the_whole_batch(mix):
    results = []
    for micro_batch in (None, 5):
        learner = learner_of(mix)
        step = Step(learner, settings(mix=(mix,) if mix else (), micro_batch=micro_batch), with_mixing=mix is not None)
        torch.manual_seed(7)  # of lambda
        parts = step(*batch())
        assert (parts.mixed is None) == (mix is None)
        results.append((parts.loss, parts.clean, *learner.model.state_dict().values()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_without_mixing_the_loss_is_the_clean_one():
    learner = learner_of("feature")
    parts = Step(learner, settings(mix=("feature",)), with_mixing=False)(*batch())
    assert (parts.mixed, parts.loss) == (None, parts.clean)


def gradient_after(learner, **changed):
    before = copy.deepcopy(learner.model.state_dict())
    Step(learner, settings(**changed), with_mixing=False)(*batch())
    return torch.cat([(before[name] - now).flatten() for name, now in learner.model.state_dict().items()])


def test_what_is_clipped():
    free = gradient_after(learner_of(lr=1.0))
    by_value = gradient_after(learner_of(lr=1.0), clip_grad_value=1e-3)
    by_norm = gradient_after(learner_of(lr=1.0), clip_grad_norm=1e-2)
    torch.testing.assert_close(by_value, free.clamp(-1e-3, 1e-3), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(by_norm, free * 1e-2 / free.norm(), rtol=1e-3, atol=1e-7)


def test_what_does_not_learn_yet_stays():
    learner = learner_of()
    learner.model.backbone.requires_grad_(False)
    before = learner.model.backbone[0].weight.clone()
    Step(learner, settings(clip_grad_value=10.0), with_mixing=False)(*batch())
    assert torch.equal(learner.model.backbone[0].weight, before)
    assert learner.model.head.linear.weight.grad.abs().max() > 0


def test_a_miner_is_given_the_embeddings_and_chooses_the_pairs():
    seen = []

    def miner(embeddings, labels):
        seen.append((embeddings.requires_grad, tuple(embeddings.shape)))
        nothing = torch.empty(0, dtype=torch.long)
        return torch.tensor([0]), torch.tensor([1]), nothing, nothing

    mined = Step(learner_of(), settings(miner=miner), with_mixing=False)(*batch())
    assert seen == [(False, (12, 5))]
    assert mined.loss < Step(learner_of(), SETTINGS, with_mixing=False)(*batch()).loss


def test_the_average_is_what_is_measured_and_stored():
    learner = learner_of(average=0.5)
    step = Step(learner, SETTINGS, with_mixing=False)
    step(*batch())
    first = learner.model.head.linear.weight.detach().clone()
    step(*batch())
    second = learner.model.head.linear.weight.detach()
    state = learner.state()
    torch.testing.assert_close(state["model"]["head.linear.weight"], (first + second) / 2)
    assert torch.equal(state["weights"]["head.linear.weight"], second)
    again = learner_of(average=0.5)
    again.load(copy.deepcopy(state))
    for one in (learner, again):
        Step(one, SETTINGS, with_mixing=False)(*batch())
    torch.testing.assert_close(again.state()["model"], learner.state()["model"], rtol=0, atol=0)
