"""First weights: by name, from a file, and what is said of those that do not fit."""

from __future__ import annotations

import urllib.error

import pytest
import torch

pytest.importorskip("torchvision")

from torchvision import models
from torchvision.models import _api

from train.errors import UserError
from train.model import backbones
from train.model.backbones import vision


@pytest.fixture
def state():
    return models.get_model("resnet18", weights=None).state_dict()


def loaded(tmp_path, stored, arch="resnet18", name="w.pt"):
    torch.save(stored, tmp_path / name)
    return backbones.build(arch, str(tmp_path / name), 32).module.state_dict()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_in_the_wrappings_of_training_scripts(tmp_path, state, wrap, prefix):
    found = loaded(tmp_path, wrap({prefix + name: tensor for name, tensor in state.items()}))
    assert {name: name for name in found} == {name: name for name in state if not name.startswith("fc.")}
    assert all(torch.equal(found[name], state[name]) for name in found)


def test_a_classifier_of_other_classes_does_not_matter(tmp_path, state):
    state["fc.weight"], state["fc.bias"] = torch.zeros(7, 512), torch.zeros(7)
    assert torch.equal(loaded(tmp_path, state)["conv1.weight"], state["conv1.weight"])


def test_what_does_not_fit_is_named(tmp_path, state):
    del state["bn1.weight"], state["bn1.num_batches_tracked"]
    state["bn7.bias"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(2)
    with pytest.raises(UserError) as raised:
        loaded(tmp_path, state)
    assert "lacks bn1.weight, has besides bn7.bias, has another shape of conv1.weight)" in str(raised.value)
    for name in [name for name in state if name.startswith("layer")]:
        del state[name]
    with pytest.raises(UserError, match=r"lacks bn1\.weight layer1\.0\.conv1\.weight .* and \d+ more"):
        loaded(tmp_path, state)


def test_safetensors(tmp_path, state):
    saved = pytest.importorskip("safetensors.torch").save_file
    saved(state, tmp_path / "w.safetensors")
    found = backbones.build("resnet18", str(tmp_path / "w.safetensors"), 32).module.state_dict()
    assert torch.equal(found["conv1.weight"], state["conv1.weight"])
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"w\.safetensors cannot be read as a state dict of torchvision's resnet18"):
        backbones.build("resnet18", str(tmp_path / "w.safetensors"), 32)


def test_names_that_torchvision_has_given_up_are_understood(tmp_path):
    state = models.get_model("densenet121", weights=None).state_dict()
    old = {n.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): t for n, t in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    found = loaded(tmp_path, old, "densenet121")
    name = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(found[name], state[name])


def test_positions_of_another_size_are_interpolated(tmp_path, monkeypatch):
    def vit(image_size):
        return models.VisionTransformer(image_size, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16)

    stored = vit(64).state_dict()
    torch.nn.init.normal_(stored["encoder.pos_embedding"])
    monkeypatch.setattr(vision, "untrained", lambda _arch, size: vit(size))
    found = loaded(tmp_path, stored, "vit_b_16")["network.encoder.pos_embedding"]
    assert found.shape == (1, 17, 8)
    assert torch.equal(found[0, 0], stored["encoder.pos_embedding"][0, 0])
    assert torch.equal(found[0, 1], stored["encoder.pos_embedding"][0, 1])  # the corners stay corners


@pytest.mark.parametrize(
    ("weights", "file"), [("imagenet", "resnet50-0676ba61.pth"), ("IMAGENET1K_V2", "resnet50-11ad3fa6.pth")]
)
def test_the_weights_of_a_name(monkeypatch, weights, file):
    asked = []
    state = models.get_model("resnet50", weights=None).state_dict()
    monkeypatch.setattr(_api, "load_state_dict_from_url", lambda url, **_: asked.append(url) or state)
    assert torch.equal(
        backbones.build("resnet50", weights, 32).module.state_dict()["conv1.weight"], state["conv1.weight"]
    )
    assert asked == [f"https://download.pytorch.org/models/{file}"]


def test_offline_the_file_and_its_place_are_named(monkeypatch, tmp_path):
    def no_network(url, **_):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(_api, "load_state_dict_from_url", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as raised:
        backbones.build("resnet50", "imagenet", 32)
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth cannot be had" in str(raised.value)
    assert f"put it at {tmp_path}/checkpoints/resnet50-0676ba61.pth" in str(raised.value)


@pytest.mark.parametrize(
    ("arch", "weights", "words"),
    [
        ("resnet50", "IMAGENET1K_V3", "no weights IMAGENET1K_V3 for resnet50, but IMAGENET1K_V1, IMAGENET1K_V2; or"),
        ("resnet50", "imagenet1k", "no weights imagenet1k for resnet50, but"),
        ("small", "imagenet", "--arch small has no pretrained weights"),
        ("resnet18", "no/such/file.pt", "no/such/file.pt cannot be read as a state dict"),
    ],
)
def test_weights_that_are_not_there(arch, weights, words):
    with pytest.raises(UserError, match=words):
        backbones.build(arch, weights, 32)


def test_weights_without_the_usual_name_have_to_be_chosen(monkeypatch):
    monkeypatch.setattr(vision, "untrained", lambda _arch, _size: models.get_model("regnet_y_400mf", weights=None))
    with pytest.raises(UserError, match="no weights IMAGENET1K_V1 for regnet_y_128gf, but IMAGENET1K_SWAG_E2E_V1"):
        backbones.build("regnet_y_128gf", "imagenet", 32)
