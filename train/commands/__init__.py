"""What is done with a trained network: `embed`, `evaluate`, `export`; `shared` has what their command lines share.

Each is a module with `parser()` and `run(args)`, and has a script of its name in train/.
"""

from __future__ import annotations

from importlib import import_module

from ..main import require_packages, status_of


def main(name: str, arguments: list[str] | None = None) -> int:
    """The exit status of that command, with one line on stderr for whatever ends it early."""

    def work() -> None:
        require_packages()
        command = import_module(f"{__name__}.{name}")
        command.run(command.parser().parse_args(arguments))

    return status_of(f"{name}.py", work)
