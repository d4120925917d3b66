"""The ways a run ends early, each with one line for the user and its own exit status."""


class Stopped(Exception):
    status = 1


class UserError(Stopped):
    """Arguments, data or surroundings that the user can put right."""

    status = 2


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
    return " ".join(message.split()) or type(error).__name__
