"""Where the files of a published data set lie: people unpack it in several ways, and --data may be its parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .folder import entries
from .paths import existing


@dataclass(frozen=True)
class Layout:
    """text: of the files, for the user.

    needs: what is read, each with the paths in the data set's folder at which it may lie.
    unless: if one of these is there it is another layout, and not whole.
    """

    text: str
    needs: Mapping[str, tuple[str, ...]]
    unless: tuple[str, ...] = ()

    def find(self, folder: Path) -> dict[str, Path]:
        """What is there, each at the first of its paths that exists."""
        if any((folder / path).exists() for path in self.unless):
            return {}
        places = {what: [folder / path for path in paths] for what, paths in self.needs.items()}
        return {what: place for what, paths in places.items() if (place := first_existing(paths))}

    def missing(self, found: Mapping[str, Path]) -> str:
        return next(" or ".join(paths) for what, paths in self.needs.items() if what not in found)


@dataclass(frozen=True)
class Published:
    name: str
    page: str  # where it is to be had
    folders: tuple[str, ...]  # names of its folder; case does not matter
    layouts: tuple[Layout, ...]

    def __str__(self) -> str:
        layouts = ", or ".join(layout.text for layout in self.layouts)
        place = f"--data is the folder with these, or holds it as {self.folders[0]}"
        return f"{self.name} is {layouts}; {place}; to be had at {self.page}"


def locate(path: str | None, published: Published) -> dict[str, Path]:
    """Each file that is needed, of the first layout that is whole. Raises UserError that names a missing file."""
    root = existing(path)
    if not root.is_dir():
        raise UserError(f"{path} is no folder: {published}")
    nearest: tuple[int, str] = 0, f"{path} does not hold it"
    for layout in published.layouts:
        for folder in (*named(root, published.folders), root):
            found = layout.find(folder)
            if len(found) == len(layout.needs):
                return found
            if len(found) > nearest[0]:
                nearest = len(found), f"{folder} lacks {layout.missing(found)}"
    raise UserError(f"{nearest[1]}: {published}")


def named(root: Path, folders: tuple[str, ...]) -> list[Path]:
    """The folders in it that have one of the names."""
    names = {name.lower() for name in folders}
    return sorted(Path(entry) for entry in entries(root) if entry.name.lower() in names and entry.is_dir())


def first_existing(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)
