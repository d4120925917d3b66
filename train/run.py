"""Train an embedding and measure Recall@K on unseen classes: python train/run.py --loss ms --mix feature"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if not __package__:  # started as a file: its folder is the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    __package__ = "train"

from . import options
from .errors import Stopped, UserError


def main(arguments: list[str] | None = None) -> int:
    try:
        args = options.parse(arguments)
        require_packages()
        from .experiment import run  # needs the packages that have just been checked

        run(args)
    except Stopped as stopped:
        print(f"run.py: {last_line(stopped)}", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print("run.py: stopped before there was anything to save", file=sys.stderr)
        return 130
    return 0


def require_packages() -> None:
    # A torchvision built for another torch fails with a RuntimeError or OSError, not an ImportError.
    for package in ("torch", "torchvision", "matplotlib", "PIL", "tqdm", "metrix_ext"):
        try:
            import_module(package)
        except (ImportError, RuntimeError, OSError) as error:
            raise UserError(
                f"{package} cannot be imported ({type(error).__name__}: {last_line(error)}): "
                "install metrix_ext with its training extra, pip install '.[train]'"
            ) from None


def last_line(error: BaseException) -> str:
    """The message; of one that comes from a loader's process, the line after that process's traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].removeprefix("train.errors.UserError: ")


if __name__ == "__main__":
    sys.exit(main())
