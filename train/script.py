"""What the scripts of this folder do before they import the package `train`, which is this folder.

It is run by its path: until it has been, what `import` would find is not certain.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def enter(script: dict) -> None:
    """`script`: globals() of what was started, by its path, by -m, or a second time in a loader's spawned process."""
    if script["__name__"] == "__main__":
        leave_path(FOLDER.parent if script["__spec__"] else FOLDER)
        # Loaders' processes that are spawned, not forked, run the script again by the module's name if it has one; the
        # name can only be found on sys.path, the file always.
        script["__spec__"] = None
    if script["__name__"] in ("__main__", "__mp_main__"):
        load_package()


def leave_path(added: Path) -> None:
    """Python puts the script's folder, or with -m the current one, first on sys.path; neither should be there.

    The script's folder has files of plain names, which no other package should get for its own; in the checkout lie
    the sources of metrix_ext, which may not be built, and an installed metrix_ext is to be preferred.
    """
    if Path(sys.path[0]).resolve() == added:
        del sys.path[0]


def load_package() -> None:
    """The package `train` is this folder, whatever has that name on sys.path or among the modules."""
    spec = spec_from_file_location("train", FOLDER / "__init__.py")
    sys.modules["train"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)
