"""What tests compile once: for all runs with the same sources, and for all workers of one run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.lock import locked

COMPILERS = 2  # at once: more only wait for each other on the machines that run these tests


def digest(words: Iterable[str], files: Iterable[Path]) -> str:
    """Another one for other words or contents."""
    found = hashlib.sha256("\0".join([*words, sys.version]).encode())
    for path in sorted(files):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def folder_of(name: str) -> Path:
    """A folder for one build, beside those of other sources and of other users."""
    folder = Path(tempfile.gettempdir()) / f"metrix_emulation-{os.getuid()}" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compile_library(compile_one: list[str], link: list[str], sources: list[Path], library: Path) -> None:
    """Compiles every source and links them; the library appears whole or not at all. One process compiles, others wait.

    Args:
        compile_one: the command before the name of a source.
        link: the command before the names of the objects.
    """
    with locked(library.with_suffix(".lock")):
        if library.exists():
            return
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            objects = [Path(scratch) / f"{source.parent.name}_{source.name}.o" for source in sources]
            largest_first = sorted(zip(sources, objects, strict=True), key=lambda job: -job[0].stat().st_size)
            commands = [[*compile_one, str(source), "-o", str(target)] for source, target in largest_first]
            with ThreadPoolExecutor(COMPILERS) as compilers:
                runs = list(compilers.map(lambda command: subprocess.run(command, check=False).returncode, commands))
            failed = [source.name for (source, _), status in zip(largest_first, runs, strict=True) if status != 0]
            assert not failed, f"does not compile: {failed}"
            linked = Path(scratch) / library.name
            subprocess.run([*link, *map(str, objects), "-o", str(linked)], check=True)
            os.replace(linked, library)
