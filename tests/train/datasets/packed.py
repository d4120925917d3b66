"""Packages of npm, as files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from train.datasets.packages import Package


def pack(folder: Path, package: Package, files: dict[str, object]) -> Path:
    """files: contents by path; what is neither bytes nor text is written as JSON."""
    path = folder / package.file_name
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else as_text(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def as_text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def family(prefix: str, icons: dict[str, str], licence: str = "MIT", styles: dict | None = None, **more) -> dict:
    """The files of a family of icons, bodies by name."""
    bodies = {name: {"body": body} for name, body in icons.items()}
    files: dict[str, object] = {
        "info.json": {"license": {"spdx": licence}},
        "icons.json": {"prefix": prefix, "icons": bodies, "width": 24, "height": 24, **more},
    }
    return files | ({"metadata.json": styles} if styles else {})


def square(left: int, top: int = 4, side: int = 8) -> str:
    return f'<path d="M{left} {top}h{side}v{side}h-{side}z" fill="currentColor"/>'
