"""What only one of several workers of pytest-xdist may do at a time."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_worker_at_a_time(name: str) -> Iterator[None]:
    """Waits until no other process of this user is in a block of that name."""
    with open(Path(tempfile.gettempdir()) / f"metrix-{os.getuid()}-{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also if this process is killed
        yield
