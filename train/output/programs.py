"""A network as a program that needs none of this code: of torch.export, or ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import Stopped, UserError, one_line
from ..files import replacing
from ..model.network import EmbeddingModel

LARGEST_ERROR = 1e-4  # of an entry of an embedding of unit norm, in float32


class FromPixels(nn.Module):
    """Images [n, 3, H, W], RGB from 0 to 1, to unit-norm embeddings [n, d]: nobody has to know the statistics."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(model.statistics.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(model.statistics.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


def program(module: FromPixels, image_size: int) -> ExportedProgram:
    """For batches of any size, of images of this size."""
    example = torch.zeros(2, 3, image_size, image_size)
    return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("n")},))


def save_program(exported: ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Writes it, and returns what a reader of the file gets. To be read with torch.export.load(path).module()."""
    with replacing(path) as file:
        torch.export.save(exported, file)
    return torch.export.load(path).module()


def save_onnx(exported: ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Writes it, with input "images" and output "embeddings", and returns it as ONNX Runtime runs it."""
    runtime = onnx_runtime()
    with replacing(path) as file:
        file.write(onnx_bytes(exported))
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["embeddings"], {"images": images.numpy()})[0])


def onnx_bytes(exported: ExportedProgram) -> bytes:
    try:
        onnx = torch.onnx.export(exported, verbose=False, input_names=["images"], output_names=["embeddings"])
        return onnx.model_proto.SerializeToString()
    except Exception as error:  # an operation that ONNX has not, or more than the 2 GB that one file may hold
        raise UserError(f"ONNX cannot hold this network ({one_line(error)}): give --format torch") from None


def onnx_runtime() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name}: pip install 'metrix_ext[onnx]', or --format torch") from None
    return onnxruntime


@torch.no_grad()
def largest_error(of: Callable[[Tensor], Tensor], module: FromPixels, image_size: int) -> float:
    """Of the entries of embeddings, against the module, on noise; 1 and 3 images are other batches than the example."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(n, 3, image_size, image_size, generator=generator) for n in (1, 3)]
    return max((of(images) - module(images)).abs().max().item() for images in batches)


def check(path: Path, error: float) -> None:
    """Removes a file that does not do what the module does."""
    if not error <= LARGEST_ERROR:
        path.unlink()
        raise Stopped(f"{path} gave embeddings that differ by {error:.1e} from the network's and is removed")
