"""Where and with what something was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path

import torch

import metrix_ext as mx
from metrix_ext import backend, native

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "torch",
    "triton",
    "torchvision",
    "numpy",
    "scipy",
    "pykeops",
    "pytorch-metric-learning",
    "faiss-cpu",
    "matplotlib",
)

CLOCKS = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit", "temperature.gpu")


def describe(device: torch.device) -> dict[str, object]:
    """Device, driver, versions, date, commit."""
    found: dict[str, object] = {"device": device_name(device), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        found |= {"gpu": nvidia_smi("driver_version", *CLOCKS), "cuda": torch.version.cuda}
    found |= {
        "backend": backend.choose(device),
        "instruction_set": None if native.failure() else native.lib().instruction_set(),
        "metrix_ext": mx.__version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
    }
    return found


def device_name(device: torch.device) -> str:
    """The device, as its driver or the operating system names it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or "unknown processor"
    return name


def folder_name(device: torch.device) -> str:
    """The name of the device's folder of results; on a processor with the number of threads, which times depend on."""
    name = device_name(device)
    if device.type == "cpu":
        name += f" {torch.get_num_threads()} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def nvidia_smi(*fields: str) -> dict[str, str]:
    """What the driver says of the first device; empty where it cannot be asked."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.strip().splitlines()[0].split(",")
    return {field: value.strip() for field, value in zip(fields, values, strict=False)}


def commit() -> str | None:
    """The checked-out commit, with "-dirty" after it where files differ; None without git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
