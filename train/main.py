"""From the command line to the exit status, with one line on stderr for whatever ends a run early."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable
from importlib import import_module

from . import options
from .errors import Stopped, UserError, dead_worker, lost_process, one_line


def main(arguments: list[str] | None = None) -> int:
    def run() -> None:
        args = options.parse(arguments)
        require_packages()
        from .experiment import run  # needs the packages that have just been checked

        run(args)

    return status_of("run.py", run)


def status_of(program: str, work: Callable[[], None]) -> int:
    """The exit status of a program that does this."""
    let_any_name_be_printed()
    try:
        try:
            work()
        except RuntimeError as error:
            raise (dead_worker(error) or lost_process(error) or error) from None
    except Stopped as stopped:
        print(f"{program}: {one_line(stopped)}", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print(f"{program}: stopped before there was anything to save", file=sys.stderr)
        return 130
    return 0


def let_any_name_be_printed() -> None:
    """Names of files are in any encoding: their bytes are printed as they are, what the terminal lacks is escaped."""
    codecs.register_error("names", bytes_or_escapes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="names")


def bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


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
