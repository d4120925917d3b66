"""The ways a run ends early, each with one line for the user and its own exit status."""

import re


class Stopped(Exception):
    status = 1


class UserError(Stopped):
    """Arguments, data or surroundings that the user can put right."""

    status = 2


def dead_worker(error: Exception) -> UserError | None:
    """Of an error that says that a process of a loader has died, and of no other.

    torch raises a RuntimeError in the main thread, wherever that is when the news arrives; in the middle of a batch the
    connection may break first.
    """
    text = one_line(error)
    if isinstance(error, ConnectionError | EOFError) and not text.startswith("Caught"):  # that is of a dataset
        return UserError(
            f"a DataLoader worker has died ({text or type(error).__name__}): fewer --workers need less memory"
        )
    if text.startswith("DataLoader worker (pid"):
        return UserError(f"{text}: fewer --workers need less memory")
    return None


def lost_process(error: Exception) -> UserError | None:
    """Of an error that says that another process of the run has ended, and of no other."""
    text = one_line(error)
    if text.startswith("mx.distributed:"):
        return UserError(f"{text}; --resume goes on from the last checkpoint")
    return None


class Diverged(Stopped):
    """The loss is no longer a number."""

    status = 1


class Interrupted(Stopped):
    """A signal asked the run to end; the status is the shell's for that signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.status = 128 + signal_number


def one_line(error: BaseException) -> str:
    """Its message, or the name of its class if it has none.

    An error from a loader's process arrives as one of the same class whose message is that process's whole
    traceback; its own message stands at the end of that, after the name of the class.
    """
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    message = str(error).rpartition(f"\n{name}: ")[2]
    return printable(" ".join(message.split())) or type(error).__name__


def printable(text: str) -> str:
    """Names of files and classes may hold control characters, which would move the cursor of a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda character: f"\\x{ord(character[0]):02x}", text)
