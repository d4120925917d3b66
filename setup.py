"""Builds metrix_ext._C with CMake and ninja.

No torch is needed, and no GPU: CUDA kernels are built where nvcc is found.

METRIX_CUDA=0 or 1 forces the choice; METRIX_CUDA_ARCHITECTURES (as in CMake, e.g. "90-real") replaces the default.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def find_nvcc() -> str | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    candidates = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    candidates += [str(Path(home) / "bin" / "nvcc") for home in homes if home]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), None)


def nvcc_version(nvcc: str) -> tuple[int, ...]:
    """Ends the build where nvcc does not say which it is: it would not compile either."""
    try:
        asked = subprocess.run([nvcc, "--version"], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"metrix_ext: {nvcc} --version does not run ({error}); METRIX_CUDA=0 builds without CUDA")
    found = re.search(r"release (\d+)\.(\d+)", asked.stdout)
    if asked.returncode or not found:
        line = f"{nvcc} --version ends with status {asked.returncode} and {'a' if found else 'no'} version"
        sys.exit(f"metrix_ext: {line}; METRIX_CUDA=0 builds without CUDA")
    return tuple(map(int, found.groups()))


def cuda_architectures(nvcc: str) -> str:
    """Ampere, Hopper and Blackwell as machine code as far as this nvcc knows them, and PTX of the last for the rest."""
    if chosen := os.environ.get("METRIX_CUDA_ARCHITECTURES"):
        return chosen
    return "80-real;90-real;100" if nvcc_version(nvcc) >= (12, 8) else "80-real;90"


def choose_cuda() -> tuple[str | None, str]:
    """nvcc to use, or None, and the line that says why."""
    wish = os.environ.get("METRIX_CUDA", "")
    if wish not in ("", "0", "1"):
        sys.exit(f"metrix_ext: METRIX_CUDA is {wish!r}, expected 0 or 1")
    nvcc = find_nvcc()
    if wish == "0":
        return None, "metrix_ext: CPU kernels only (METRIX_CUDA=0)"
    if nvcc is None:
        if wish == "1":
            sys.exit("metrix_ext: METRIX_CUDA=1 but there is no nvcc on PATH, in CUDACXX or in CUDA_HOME")
        return (
            None,
            "metrix_ext: no nvcc found, building the CPU kernels only (set CUDA_HOME or CUDACXX to change that)",
        )
    if nvcc_version(nvcc) < (12, 0):  # the kernels are C++20
        line = f"{nvcc} is older than 12.0, the first that knows C++20"
        if wish == "1":
            sys.exit(f"metrix_ext: METRIX_CUDA=1 but {line}")
        return None, f"metrix_ext: {line}, building the CPU kernels only (set CUDA_HOME or CUDACXX to change that)"
    return nvcc, f"metrix_ext: building the CPU kernels, and the CUDA kernels with {nvcc}"


def require_compiler() -> None:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    if not any(name and shutil.which(name.split()[0]) for name in names):
        sys.exit(
            "metrix_ext: no C++ compiler found; install one that knows C++20 (g++ 10, clang 12 or newer) or set CXX"
        )


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        import pybind11

        require_compiler()
        nvcc, line = choose_cuda()
        print(line, flush=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / ext.name
        build.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "CMAKE_INSTALL_RPATH_USE_LINK_PATH": "OFF",
            "Python_EXECUTABLE": sys.executable,
            "PYBIND11_FINDPYTHON": "ON",
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "METRIX_CUDA": "ON" if nvcc else "OFF",
        }
        if nvcc:
            options["CMAKE_CUDA_COMPILER"] = nvcc
            options["METRIX_CUDA_ARCHITECTURES"] = cuda_architectures(nvcc)
        defines = [f"-D{name}={value}" for name, value in options.items()]
        # An old configuration may point at another environment's Python or nvcc.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        try:
            subprocess.run(["cmake", "-S", ROOT / "csrc", "-B", build, "-G", "Ninja", *defines], check=True)
            subprocess.run(["cmake", "--build", build], check=True)
        except subprocess.CalledProcessError as error:
            hint = "; METRIX_CUDA=0 builds without CUDA" if nvcc else ""
            sys.exit(f"metrix_ext: the native build failed with status {error.returncode}, see above{hint}")
        self.leave_in_checkout(target)

    def leave_in_checkout(self, built: Path) -> None:
        """Commands started in the checkout (pytest, python -m bench) import the package from there."""
        here = ROOT / "metrix_ext" / built.name
        if here != built:
            shutil.copyfile(built, here.with_suffix(".tmp"))
            os.replace(here.with_suffix(".tmp"), here)  # not over a library that a process has mapped


setup(ext_modules=[Extension("metrix_ext._C", [])], cmdclass={"build_ext": CMakeBuild})
