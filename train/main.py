"""From the command line to the exit status, with one line on stderr for whatever ends a run early."""

from __future__ import annotations

import sys
from importlib import import_module

from . import options
from .errors import Stopped, UserError, one_line


def main(arguments: list[str] | None = None) -> int:
    try:
        args = options.parse(arguments)
        require_packages()
        from .experiment import run  # needs the packages that have just been checked

        run(args)
    except Stopped as stopped:
        print(f"run.py: {one_line(stopped)}", file=sys.stderr)
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
    """Where a long message says what it comes to."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
