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
