"""Packages of artwork by name and version. npm fetches them once; what is in a package is read without unpacking it."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import reading

PERMISSIVE = frozenset(("Apache-2.0", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "OFL-1.1", "Unlicense"))
AT_ONCE = 10  # packages of one call of npm


@dataclass(frozen=True)
class Package:
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def file_name(self) -> str:
        """As npm pack calls it: the scope's @ is left out, its slash is a hyphen."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def fetch(packages: Iterable[Package], folder: Path) -> None:
    """Those that are not in the folder yet, a few at a time. Raises UserError if there is no npm or it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not (folder / package.file_name).exists()]
    for start in range(0, len(missing), AT_ONCE):
        some = [str(package) for package in missing[start : start + AT_ONCE]]
        print(f"npm pack {' '.join(some)}", flush=True)
        try:
            subprocess.run(["npm", "pack", "--silent", *some], cwd=folder, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError(f"npm is missing: install it, or put {missing[start].file_name} into {folder}") from None
        except subprocess.CalledProcessError as error:
            reason = " ".join(error.stderr.split())[:200] or f"exit status {error.returncode}"
            raise UserError(f"npm pack {' '.join(some)} fails: {reason}") from None


class Archive:
    """An open package."""

    def __init__(self, file: tarfile.TarFile) -> None:
        self.file = file
        self.names = frozenset(file.getnames())

    def read(self, path: str) -> bytes:
        member = self.file.extractfile(f"package/{path}")
        if member is None:
            raise ValueError(f"{path} is no file")
        return member.read()

    def json(self, path: str) -> Any:
        return json.loads(self.read(path))

    def __contains__(self, path: str) -> bool:
        return f"package/{path}" in self.names


@contextmanager
def opened(package: Package, folder: Path) -> Iterator[Archive]:
    """Raises UserError for a package that is missing, damaged, or not as is expected inside."""
    path = folder / package.file_name
    with reading(path, "a package of npm"), tarfile.open(path) as file:
        yield Archive(file)


def permissive(licence: str, package: Package) -> str:
    """The licence, if it lets anybody use, change and share the artwork. Raises UserError for any other."""
    if licence not in PERMISSIVE:
        raise UserError(f"{package} has the licence {licence}, expected one of {', '.join(sorted(PERMISSIVE))}")
    return licence
