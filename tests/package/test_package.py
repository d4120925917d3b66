"""Building, packing and installing; the report of what was built."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import metrix_ext as mx
from metrix_ext import native

ROOT = Path(__file__).parents[2]
SMOKE = (
    "import torch, metrix_ext as mx\n"
    "from metrix_ext import native\n"
    "assert native.failure() is None, native.failure()\n"
    "x = torch.randn(12, 8, dtype=torch.float64, requires_grad=True); y = torch.arange(12) // 3\n"
    "loss = mx.losses.MultiSimilarityLoss(); criterion = mx.Metrix(loss, mix='embed', renormalize=True)\n"
    "lam = torch.rand(12, 12, dtype=torch.float64)\n"
    "got = criterion.mixed_loss(x, y, 'pos-neg', lam); got.backward()\n"
    "want = mx.reference.mixed_loss(loss, x, y, 'pos-neg', lam, renormalize=True)\n"
    "assert torch.allclose(got, want), (got, want)\n"
    "print('fine with torch', torch.__version__)\n"
)


def run(command: list[str], cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_info_reports_versions_backends_and_builds() -> None:
    done = run([sys.executable, "-m", "metrix_ext.info"], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"metrix_ext {mx.__version__}\n")
    for name in ("reference", "cpu", "cuda", "triton"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"backend {name}:")]
        assert line.endswith(": available") or ": unavailable, " in line
    assert f"CPU instruction set in use: {native.lib().instruction_set()}" in done.stdout


def test_a_missing_extension_is_explained() -> None:
    """Without the compiled part the reference still runs, and the cpu backend says why it cannot."""
    script = (
        "import sys; sys.modules['metrix_ext._C'] = None\n"
        "import torch, metrix_ext as mx\n"
        "print(float(mx.losses.NCALoss()(torch.eye(4), torch.tensor([0, 0, 1, 1]))))\n"
        "mx.use_backend('cpu').__enter__()\n"
    )
    done = run([sys.executable, "-c", script], PYTHONPATH=str(ROOT))
    assert float(done.stdout) == pytest.approx(0.6931, abs=1e-3)
    assert done.stderr.strip().splitlines()[-1].startswith("RuntimeError: backend 'cpu' cannot run: the compiled part")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"METRIX_CUDA": "yes"}, "METRIX_CUDA is 'yes', expected 0 or 1"),
        ({"METRIX_CUDA": "1", "CUDA_HOME": "/nowhere", "PATH": "TOOLS"}, "METRIX_CUDA=1 but there is no nvcc"),
        ({"PATH": "/nowhere", "CXX": ""}, "no C++ compiler found; install one that knows C++20"),
    ],
)
def test_a_build_that_cannot_work_says_so_in_one_line(variables: dict[str, str], message: str, tmp_path: Path) -> None:
    if "METRIX_CUDA" in variables and Path("/usr/local/cuda/bin/nvcc").exists() and "PATH" in variables:
        pytest.skip("this machine has an nvcc in /usr/local/cuda, which is always found")
    if variables.get("PATH") == "TOOLS":
        compiler = shutil.which("c++")
        if compiler is None:
            pytest.skip("no c++ on this machine")
        (tmp_path / "c++").symlink_to(compiler)
        variables = {**variables, "PATH": str(tmp_path)}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", str(tmp_path / "t")]
    done = run([*command, "--build-lib", str(tmp_path / "l")], **variables)
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]


@pytest.mark.long
def test_sdist_and_wheel(tmp_path: Path) -> None:
    """An sdist holds all that the build needs; the wheel from it works away from the checkout, built without CUDA."""
    pytest.importorskip("build")
    dist = tmp_path / "dist"
    done = run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(dist)])
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run(["git", "ls-files", "csrc", "metrix_ext", "train", "tests", "bench"]).stdout.split()
    assert tracked, "not a git checkout"
    assert set(tracked) <= packed, sorted(set(tracked) - packed)
    assert not [name for name in packed if name.endswith((".so", ".pyc"))]

    pip = [sys.executable, "-m", "pip"]
    done = run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-v", "-w", str(dist), str(sdist)], METRIX_CUDA="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU kernels only (METRIX_CUDA=0)" in done.stdout + done.stderr
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("metrix_ext/_C.") for name in names)
    assert "metrix_ext/py.typed" in names
    assert not [name for name in names if name.split("/")[0] in ("csrc", "tests", "train", "bench")]
    done = run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)])
    assert done.returncode == 0, done.stderr
    done = run([sys.executable, "-c", SMOKE], cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout


@pytest.mark.long
def test_the_same_object_runs_under_the_cpu_build_of_torch(tmp_path: Path) -> None:
    """Built once, without torch, it passes the tests of the ops beside another build of torch."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--ignore-installed"]
    plan = run([*pip, "--dry-run", "--no-deps", "--report", "-", "torch==2.13.0"])
    if plan.returncode != 0 or "+cpu" not in json.loads(plan.stdout)["install"][0]["metadata"]["version"]:
        pytest.skip("the package index offers no CPU build of torch 2.13.0 here")
    venv = tmp_path / "venv"
    assert run([sys.executable, "-m", "venv", "--without-pip", str(venv)]).returncode == 0
    packages = ["torch==2.13.0", "numpy", "scipy", "pytest", "hypothesis", "expecttest", "setuptools"]
    # Python compiles what is imported; to compile all of torch beforehand takes as long as to unpack it.
    done = run([*pip, "--no-compile", "--prefix", str(venv), *packages])
    assert done.returncode == 0, done.stderr
    script = SMOKE + "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    tests = ["tests/ops/test_batch_ops.py", "tests/ops/test_pair_sums.py", "tests/losses"]
    command = [str(venv / "bin" / "python"), "-c", script, "-q", "-p", "no:cacheprovider", *tests]
    done = run(command, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert done.stdout.startswith("fine with torch 2.13.0+cpu")


def test_ci_runs_the_command_of_the_readme() -> None:
    commands = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if "bin/pytest" in line]
    assert len(commands) == 1
    assert "pip install" in commands[0]
    assert "bin/pytest' README.md" in (ROOT / ".ci" / "run").read_text()
