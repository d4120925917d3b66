"""A network comes back from the folder of its run as it was."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train import restore
from train.data import splits
from train.errors import UserError
from train.model import network

CPU = torch.device("cpu")


def test_network_transform_and_configuration(trained):
    found = restore.restore(trained, CPU)
    stored = torch.load(trained / "checkpoint.pt", weights_only=True)
    state = found.model.state_dict()
    assert state.keys() == stored["model"].keys()
    assert all(torch.equal(state[name], stored["model"][name]) for name in state)
    assert not found.model.training
    assert (found.config["arch"], found.epoch, found.path) == ("small", 1, trained / "checkpoint.pt")
    images = found.input(Image.new("RGB", (40, 30), "white"))
    assert images.shape == (1, 3, 32, 32)
    torch.testing.assert_close(found.model(images).norm(dim=1), torch.ones(1))


def test_a_checkpoint_alone_is_enough(trained):
    assert restore.restore(trained / "checkpoint.pt", CPU).epoch == 1


def test_the_data_set_is_split_as_it_was(trained, archive, tmp_path):
    config = restore.restore(trained, CPU).config
    found = splits.of_options(config, workers=0)
    assert (len(found.train), len(found.test)) == (36, 36)
    (tmp_path / "moved.npz").symlink_to(archive)
    assert splits.of_options(config, 0, str(tmp_path / "moved.npz")).test.names == found.test.names


@pytest.fixture
def stored(trained):
    return torch.load(trained / "checkpoint.pt", weights_only=True)


def test_first_weights_and_statistics_are_of_the_network_not_of_its_file(stored, tmp_path):
    """A run on a backbone with other statistics, from a file that is no longer there."""
    pytest.importorskip("timm")
    model = network.build("timm:vit_tiny_patch16_224", "none", 8, "avg+max", 32, "class")
    changed = {"arch": "timm:vit_tiny_patch16_224", "weights": "gone.pt", "embedding_size": 8, "tokens": "class"}
    config = {**stored["config"], **changed}
    torch.save({**stored, "config": config, "model": model.state_dict()}, tmp_path / "c.pt")
    found = restore.restore(tmp_path / "c.pt", CPU)
    white = found.input(Image.new("RGB", (32, 32), "white"))
    torch.testing.assert_close(white, torch.ones(1, 3, 32, 32))  # (1 - 0.5) / 0.5
    with torch.no_grad():
        torch.testing.assert_close(found.model(white), model.eval()(white))


def test_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        restore.restore(tmp_path / "nowhere", CPU)
    with pytest.raises(UserError, match=r"holds no checkpoint\.pt: give the folder of a run"):
        restore.restore(tmp_path, CPU)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stored: [1], "it holds list, no dict"),
        (lambda stored: {"model": stored["model"]}, "it holds no model with its configuration"),
        (lambda stored: {**stored, "config": {}}, "'arch'"),
        (lambda stored: {**stored, "model": {}}, "Missing key"),
        (lambda stored: {**stored, "config": {**stored["config"], "arch": "resnet5"}}, "torchvision has no resnet5"),
    ],
)
def test_a_checkpoint_that_does_not_fit_itself(stored, tmp_path, change, words):
    torch.save(change(stored), tmp_path / "c.pt")
    with pytest.raises(UserError, match=words):
        restore.restore(tmp_path / "c.pt", CPU)
