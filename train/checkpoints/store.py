"""Two checkpoints in a folder, the newest and the one before it; whatever happens, one that is whole.

A new one is written beside them and reaches the disk before it gets the name of the newest. Between the two renames
there is no newest, and the one before is what a reader finds.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from ..errors import UserError
from ..files import load_tensors, reading, require_file

NEWEST, PREVIOUS, UNFINISHED = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.unfinished.pt"
WHAT = "a checkpoint"
IS_FOLDER = 0x10  # a flag of an entry of a zip file: with it torch.load gives a tensor of whatever was in memory


def write(folder: Path, state: dict[str, Any]) -> None:
    """Makes `state` the newest checkpoint and keeps the one before it. The disk needs room for three.

    `state`: of tensors, numbers, strings and containers. Read it with `read`, or torch.load(weights_only=True).

    Raises:
        UserError: it cannot be written, as on a full disk; the checkpoints are as they were.
        TypeError: it holds something that is not loaded again without running code.
    """
    newest, unfinished = folder / NEWEST, folder / UNFINISHED
    try:
        _save(state, unfinished)
        if _is_whole(newest):  # a damaged one may not take the place of the one before, which `read` has fallen back to
            os.replace(newest, folder / PREVIOUS)
        os.replace(unfinished, newest)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        kept = any((folder / name).exists() for name in (NEWEST, PREVIOUS))
        before = "the one before is kept" if kept else "there is none yet"
        why = f"({cause.strerror}): {before}; put that right and start again"
        raise UserError(f"{newest} cannot be written {why}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint, or None if there is none.

    A damaged one is skipped, with one line on stderr, and the one before it is given.

    Raises:
        UserError: there are some, and none is whole.
    """
    errors: list[UserError] = []
    for path in (folder / NEWEST, folder / PREVIOUS):
        if not os.path.lexists(path):
            continue
        try:
            state = load(path)
        except UserError as error:
            errors.append(error)
            continue
        if errors:
            print(f"run.py: warning: {errors[0]}; going on from {path}, the one before", file=sys.stderr)
        return state
    if errors:
        raise UserError("; ".join(map(str, errors)))
    return None


def _save(state: dict[str, Any], path: Path) -> None:
    """The file is on the disk when this returns."""
    with open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(path):
        raise TypeError(f"state: holds {', '.join(unsafe)}, expected tensors, numbers, strings and containers")


def _sync_folder(folder: Path) -> None:
    """The new names are on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse; the files themselves are safe
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_whole(path: Path) -> bool:
    try:
        _verify(path)
    except UserError:
        return False
    return True


def _verify(path: Path) -> None:
    """Compares checksums, which torch.load does not: it takes a tensor with flipped bits as it is."""
    with reading(path, WHAT):
        require_file(path)
        with ZipFile(path) as archive:
            folders = (entry.filename for entry in archive.infolist() if entry.external_attr & IS_FOLDER)
            if damaged := archive.testzip() or next(folders, None):
                raise ValueError(f"{damaged} is damaged in it")


def load(path: Path) -> dict[str, Any]:
    """One checkpoint. Raises UserError with one line if it is not there, not whole, or none."""
    _verify(path)
    state = load_tensors(path, WHAT)
    with reading(path, WHAT):
        if not isinstance(state, dict):
            raise ValueError(f"it holds {type(state).__name__}, no dict")
    return state


def _os_error(error: BaseException | None) -> OSError | None:
    """What the system said. torch.save finishes its file even where writing has failed, and reports that instead."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error
