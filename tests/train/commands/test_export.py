"""A program of torch.export, and ONNX, do what the network does."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.train.runs import check_refused, command_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train.errors import Stopped
from train.model import network
from train.output import programs
from train.restore import restore


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(5)]


def pixels_of(pictures):
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 for picture in pictures])


def embeddings_of(trained, pictures):
    model = restore(trained, torch.device("cpu")).model
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in model.statistics)
    with torch.no_grad():
        return model((pixels_of(pictures) - mean) / std)


def test_the_program_takes_pixels(trained, tmp_path, pictures, capsys):
    status, out, err = command_here(capsys, "export", trained, "--out", tmp_path / "new")
    assert (status, err) == (0, "")
    assert f"{tmp_path / 'new' / 'model.pt2'}: embeddings within " in out
    module = torch.export.load(tmp_path / "new" / "model.pt2").module()
    torch.testing.assert_close(module(pixels_of(pictures)), embeddings_of(trained, pictures), atol=1e-5, rtol=0)


def test_onnx_does_the_same(trained, tmp_path, pictures, capsys):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    status, out, _ = command_here(capsys, "export", trained, "--out", tmp_path, "--format", "both")
    assert status == 0
    assert "model.onnx: embeddings within " in out
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(["embeddings"], {"images": pixels_of(pictures).numpy()})
    np.testing.assert_allclose(found, embeddings_of(trained, pictures), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]


@pytest.mark.parametrize("arch", ["vit", "resnet18"])
def test_other_networks_take_batches_of_any_size(arch, monkeypatch):
    from torchvision import models

    from train.model.backbones import vision

    if arch == "vit":
        tiny = models.VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16)
        monkeypatch.setattr(vision, "untrained", lambda *_: tiny)
        arch = "vit_b_16"
    module = programs.FromPixels(network.build(arch, "none", 8, "avg+max", 32)).eval()
    exported = programs.program(module, 32)
    assert programs.largest_error(exported.module(), module, 32) < 1e-5


def test_a_program_that_differs_is_removed(tmp_path):
    file = tmp_path / "model.pt2"
    file.write_bytes(b"program")
    programs.check(file, 1e-6)
    assert file.exists()
    for error in (2e-4, float("nan")):
        file.write_bytes(b"program")
        with pytest.raises(Stopped, match=r"model\.pt2 gave embeddings that differ by"):
            programs.check(file, error)
        assert not file.exists()


def test_the_error_is_found():
    module = programs.FromPixels(network.build("small", "none", 8, "avg", 32)).eval()
    assert programs.largest_error(module, module, 32) == 0
    shifted = programs.largest_error(lambda images: module(images) + 0.25, module, 32)
    assert shifted == pytest.approx(0.25, rel=1e-5)


def test_onnx_is_asked_for_before_the_work(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, err = command_here(capsys, "export", trained, "--out", tmp_path / "new", "--format", "onnx")
    check_refused(status, err, "pip install 'metrix_ext[onnx]'")
    assert not (tmp_path / "new").exists()


def test_what_is_refused(trained, tmp_path, capsys):
    (tmp_path / "model.pt2").write_text("precious")
    status, _, err = command_here(capsys, "export", trained, "--out", tmp_path)
    check_refused(status, err, "model.pt2 exists: give another name, or --overwrite")
    status, _, err = command_here(capsys, "export", trained, "--out", "/dev/null/below")
    check_refused(status, err, "/dev/null/below cannot be written")
    status, _, err = command_here(capsys, "export", tmp_path / "nowhere", "--out", tmp_path, "--overwrite")
    check_refused(status, err, "nowhere does not exist")
    assert (tmp_path / "model.pt2").read_text() == "precious"
