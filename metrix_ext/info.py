"""``python -m metrix_ext.info``: versions, backends and why one is unavailable, what was built."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from . import __version__, backend, native


def lines() -> list[str]:
    """The report, a line each."""
    report = [
        f"metrix_ext {__version__}",
        f"python {platform.python_version()} on {platform.platform()}",
        f"torch {torch.__version__} (CUDA {torch.version.cuda or 'none'}), {torch.get_num_threads()} CPU threads",
    ]
    for package in ("numpy", "scipy", "triton"):
        try:
            report.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            report.append(f"{package} not installed")
    for name in backend.NAMES[:-1]:
        reason = backend.why_not(name)
        report.append(f"backend {name}: {'available' if reason is None else 'unavailable, ' + reason}")
    if native.failure() is None:
        lib = native.lib()
        built = native.cuda_architectures()
        report.append(f"native: compiled by {lib.compiler}, CPU instruction set in use: {lib.instruction_set()}")
        report.append(f"native CUDA: {'architectures ' + built if built else 'not built (no nvcc was found)'}")
    if torch.cuda.is_available():
        devices = (torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count()))
        report += [f"device {d.name}, sm_{d.major}{d.minor}, {d.total_memory / 2**30:.0f} GiB" for d in devices]
    else:
        report.append("device: torch sees no CUDA device")
    return report


if __name__ == "__main__":
    print("\n".join(lines()))
