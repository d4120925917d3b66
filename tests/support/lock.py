"""What only one of several processes may do at a time, such as the workers of pytest-xdist."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process holds the file; a process that dies lets it go."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def one_worker_at_a_time(name: str) -> AbstractContextManager[None]:
    """Waits until no other process of this user is in a block of that name."""
    return locked(Path(tempfile.gettempdir()) / f"metrix-{os.getuid()}-{name}.lock")
