"""pair_sums and anchor_sums on random problems, against the reference in float64 (properties.py), on every backend.

METRIX_PROPERTY_CASES and METRIX_PROPERTY_SEED say how many and which: 100,000 of the CPU's are

    METRIX_PROPERTY_CASES=100000 pytest -s tests/robustness/test_properties.py -k "cpu and not nightly"

What has been run stands in docs/numbers.md.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metrix_ext as mx
from metrix_ext import native
from tests.emulation.device import emulated

from .properties import run

# What the interpreter of Triton takes a quarter of a second for.
MOST_ON_TRITON = 7

CASES = int(os.environ.get("METRIX_PROPERTY_CASES", "50"))
NIGHTLY_CASES = int(os.environ.get("METRIX_PROPERTY_CASES", "10000"))
SEED = int(os.environ.get("METRIX_PROPERTY_SEED", "13"))
NIGHTLY_SEED = int(os.environ.get("METRIX_PROPERTY_SEED", random.SystemRandom().randrange(2**31)))

each_number = pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(CASES, SEED, id="some"),
        pytest.param(NIGHTLY_CASES, NIGHTLY_SEED, id="nightly", marks=pytest.mark.slow),
    ],
)


@each_number
@pytest.mark.skipif(native.failure() is not None, reason=str(native.failure()))
def test_on_the_cpu(count: int, seed: int) -> None:
    with mx.use_backend("cpu"):
        run(count, seed)


@emulated.tiny_blocks
@each_number
def test_on_the_emulated_device(device: emulated.Device, count: int, seed: int) -> None:
    run(count, seed)


@each_number
def test_on_triton(count: int, seed: int) -> None:
    """In its interpreter, which has to be chosen before Triton is imported: another process."""
    pytest.importorskip("triton")
    environment = dict(os.environ) if torch.cuda.is_available() else {**os.environ, "TRITON_INTERPRET": "1"}
    program = (
        "import metrix_ext as mx\nfrom tests.robustness.properties import run\n"
        f"with mx.use_backend('triton'): run({count}, {seed}, {MOST_ON_TRITON})"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
