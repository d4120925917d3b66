"""Files: one that is written is there whole or not at all, one that is damaged is named in one line."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

from .errors import Stopped, UserError, one_line

LONGEST_REASON = 200  # some errors list all that they found in the file


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A reader of `path` finds the old file or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def reading(path: Path | str, what: str) -> Iterator[None]:
    """Whatever goes wrong inside is the fault of the file, and becomes a UserError of one line that names it.

    All exceptions, as no list of them is complete: on damaged files Pillow, numpy, zipfile and torch raise OSError,
    ValueError, SyntaxError, EOFError, AttributeError, MemoryError, struct.error, zlib.error and a dozen more.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Stopped:  # says what it has to say already
        raise
    except Exception as error:
        reason = one_line(error)
        short = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."
        raise UserError(f"{path} cannot be read as {what} ({short}): repair or remove it") from None


def require_file(path: Path | str) -> None:
    """A pipe would be waited for, and a device may never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")


def load_tensors(path: Path | str, what: str) -> Any:
    """What torch.save has written, if it is made of tensors, numbers, strings and containers: no code is run."""
    with reading(path, what):
        import torch  # not before it is known to be installed

        require_file(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError:  # its message advises to run the code
            raise ValueError("it is damaged, or holds objects that are no tensors") from None
