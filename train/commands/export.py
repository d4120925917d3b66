"""A trained network, from pixels to embeddings, as a program of torch.export and as ONNX, each checked against it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import UserError, one_line
from ..output import programs
from ..restore import restore
from . import shared

Save = Callable[[ExportedProgram, Path], Callable[[Tensor], Tensor]]
FORMATS: dict[str, tuple[str, Save]] = {
    "torch": ("model.pt2", programs.save_program),
    "onnx": ("model.onnx", programs.save_onnx),
}


def parser() -> argparse.ArgumentParser:
    p = shared.parser(
        "export.py",
        "Export backbone and head as a program that takes images [n, 3, H, W], float32 RGB from 0 to 1, and returns "
        "unit-norm embeddings [n, d]. n is any number; H = W is the image size of the run.",
    )
    p.add_argument("--format", choices=("torch", "onnx", "both"), default="torch", help="default: torch")
    shared.add_out(p, required=True, text="folder for model.pt2 and model.onnx")
    return p


def run(args: argparse.Namespace) -> None:
    formats = tuple(FORMATS) if args.format == "both" else (args.format,)
    if "onnx" in formats:
        programs.onnx_runtime()
    make_folder(args.out)
    for name in formats:
        shared.require_new(args.out / FORMATS[name][0], args.overwrite)
    restored = restore(args.checkpoint, torch.device("cpu"))
    model = restored.model.to(memory_format=torch.contiguous_format)
    module, image_size = programs.FromPixels(model), restored.config["image_size"]
    exported = traced(module, image_size, restored.config["arch"])
    for name in formats:
        file, save = FORMATS[name]
        error = programs.largest_error(save(exported, args.out / file), module, image_size)
        programs.check(args.out / file, error)
        print(f"{args.out / file}: embeddings within {error:.1e} of the network's")


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path} cannot be written ({error.strerror}): give another folder") from None


def traced(module: programs.FromPixels, image_size: int, arch: str) -> ExportedProgram:
    try:
        return programs.program(module, image_size)
    except Exception as error:  # as many kinds as there are things that a network may do and a trace may not
        raise UserError(f"--arch {arch} cannot be exported ({one_line(error)})") from None
