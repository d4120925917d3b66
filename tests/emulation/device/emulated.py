"""The CUDA kernels compiled by g++ against the headers beside this, as a module in the place of metrix_ext._C."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import shutil
import sysconfig
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from metrix_ext import native
from metrix_ext.ops import launch
from tests.support import shared_build

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
SOURCES = [
    *sorted((CSRC / "cuda").rglob("*.cu")),
    *sorted((CSRC / "bindings").glob("*.cpp")),
    HERE / "no_cpu.cpp",
    HERE / "control.cpp",
]
FLAGS = [
    *("-std=c++20", "-O1", "-fPIC", "-w", "-fvisibility=hidden"),
    "-fno-gnu-unique",  # two builds in one process must not share the variables of their kernels
    "-U_FORTIFY_SOURCE",  # it takes a jump from fiber to fiber for an error
    *("-DMETRIX_CUDA", '-DMETRIX_CUDA_ARCHITECTURES="emulated"', '-DMETRIX_COMPILER=""'),
]
TINY_BLOCKS = "-DMETRIX_TINY_BLOCKS"  # so that small problems take several blocks, strips and tiles

EMPTY, EMPTY_LIKE, NEW_EMPTY = torch.empty, torch.empty_like, Tensor.new_empty

# For tests with the fixture of that name: small problems in several blocks, too.
tiny_blocks = pytest.mark.parametrize("device", [False, True], ids=["normal", "tiny blocks"], indirect=True)


class Device:
    """A build of the emulated device, and its controls."""

    def __init__(self, library: Path, has_tiny_blocks: bool) -> None:
        self.has_tiny_blocks = has_tiny_blocks
        # A name of its own: under the same name Python would hand out the first build again.
        spec = importlib.util.spec_from_file_location(f"build_{library.parent.name}._C", library)
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self._controls = ctypes.CDLL(str(library))

    def run_backwards(self, backwards: bool) -> None:
        """Blocks and threads from last to first: what depends on their order shows."""
        self._controls.emulation_set_reversed(int(backwards))

    def launches(self) -> int:
        return int(self._controls.emulation_launches())

    def copied_bytes(self) -> int:
        """Copied to shared memory while threads work."""
        self._controls.emulation_copied_bytes.restype = ctypes.c_long
        return int(self._controls.emulation_copied_bytes())


def build(tiny_blocks: bool = False) -> Path:
    """The module; kept between runs for as long as its sources stay the same."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the emulation needs g++")
    pybind11 = pytest.importorskip("pybind11")  # every test loads this module, in environments without it, too
    includes = [str(HERE), str(CSRC), pybind11.get_include(), sysconfig.get_path("include")]
    command = [compiler, *FLAGS, *[TINY_BLOCKS] * tiny_blocks, *(f"-I{path}" for path in includes)]
    texts = [p for p in (*CSRC.rglob("*.*"), *HERE.glob("*.*")) if p.suffix in (".h", ".cuh", ".cu", ".cpp")]
    folder = shared_build.folder_of(shared_build.digest([*command, torch.__version__], texts))
    library = folder / "_C.so"
    if not library.exists():
        shared_build.compile_library([*command, "-c", "-x", "c++"], [compiler, "-shared"], SOURCES, library)
    return library


def build_in_background() -> None:
    """Starts compiling both modules. A test that needs one waits for it, and tells what went wrong."""

    def both() -> None:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            build(tiny_blocks=False)
            build(tiny_blocks=True)

    threading.Thread(target=both, daemon=True).start()


def install(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the ops on CPU tensors run on the emulated device, on memory that is NaN to begin with."""

    def poisoned(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor.fill_(float("nan"))
        return tensor.fill_(255) if tensor.dtype == torch.uint8 else tensor

    monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(importlib.import_module("metrix_ext.ops.anchor_sums"), "_on_cpu_single", lambda mixed: mixed)
    monkeypatch.setattr(native, "_module", device.module)
    monkeypatch.setattr(native, "_failure", None)  # or the reference would run where the package is not built
    monkeypatch.setattr(launch, "place", lambda tensor: (0, 0))
    monkeypatch.setattr(torch, "empty_like", lambda *args, **kwargs: poisoned(EMPTY_LIKE(*args, **kwargs)))
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: poisoned(EMPTY(*args, **kwargs)))
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *args, **kwargs: poisoned(NEW_EMPTY(self, *args, **kwargs)))
