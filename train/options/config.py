"""Options as a TOML file: one is read for --config, and every run leaves its own, resolved, in its folder."""

from __future__ import annotations

import argparse
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import reading, replacing, require_file

CONFIG = "config.toml"
# Where and whether a run is written is not what it computes.
LEFT_OUT = ("config", "preset", "out", "overwrite", "resume", "help")


def read(path: str, parser: argparse.ArgumentParser) -> list[str]:
    """The file's options as they would stand on a command line."""
    with reading(path, "a TOML file of options"):
        require_file(path)
        options = _parse(Path(path).read_text("utf-8", "surrogateescape"))
    known = _known(parser)
    given: list[str] = []
    for name, value in options.items():
        action = known.get(name.replace("-", "_"))
        if action is None:
            close = difflib.get_close_matches(name.replace("-", "_"), known, 1)
            meant = f", perhaps {close[0]}" if close else ""
            raise UserError(f"--config {path}: there is no option {name}{meant} (--help lists the options)")
        given += _on_command_line(action, value, f"--config {path}: {name}")
    return given


def of_run(out: str | None, parser: argparse.ArgumentParser) -> list[str]:
    """The options of the run in the folder; none if there is no run."""
    if out is None:
        raise UserError("--resume needs --out, the folder of the run")
    path = os.path.join(out, CONFIG)
    return read(path, parser) if os.path.lexists(path) else []


def write(path: Path, options: Mapping[str, Any], parser: argparse.ArgumentParser) -> None:
    known = _known(parser)
    # Options that may be given several times were not given at all where their list is empty.
    given = {name: value for name, value in options.items() if name in known and value not in (None, [])}
    lines = [f"{name} = {_toml(value)}" for name, value in given.items()]
    with replacing(path) as file:
        file.write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """The options as JSON and a checkpoint give them back: lists, no tuples."""
    return json.loads(json.dumps(vars(args)))


# Where a run goes on, and on what, is not what it computes; more epochs are those that were there and others.
MAY_DIFFER = (*LEFT_OUT, "data", "device", "threads", "workers", "log", "wandb_project", "measures")


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], out: Path) -> None:
    """Raises UserError if a run would go on as another one."""
    differ = [name for name in now if name not in MAY_DIFFER and before.get(name) != now[name]]
    if "epochs" in differ and now["schedule"] != "cosine" and now["epochs"] >= before["epochs"]:
        differ.remove("epochs")
    if differ:
        flags = ", ".join(f"--{name.replace('_', '-')} was {before.get(name)}" for name in differ)
        raise UserError(f"--resume {out}: the run has other options ({flags}): leave them out, or begin another run")


def _known(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {action.dest: action for action in parser._actions if action.dest not in LEFT_OUT}


def _parse(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads(text)


def _on_command_line(action: argparse.Action, value: Any, what: str) -> list[str]:
    flag = action.option_strings[0]
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise UserError(f"{what} is {value!r}, expected true or false")
        return _switch(action, value)
    if isinstance(action.default, list):  # may be given several times
        if not isinstance(value, dict):
            raise UserError(f"{what} is {value!r}, expected a table such as {{margin = 0.5}}")
        return [f"{flag}={name}={part}" for name, part in value.items()]
    return [f"{flag}={_text(value, what)}"]


def _switch(action: argparse.Action, value: bool) -> list[str]:
    if isinstance(action, argparse.BooleanOptionalAction):
        return [action.option_strings[0 if value else 1]]
    return [] if value == action.default else [action.option_strings[0]]


def _text(value: Any, what: str) -> str:
    if isinstance(value, list):
        return ",".join(_text(part, what) for part in value) or "none"
    if isinstance(value, dict):
        return ",".join(f"{name}={_text(part, what)}" for name, part in value.items())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{what} is {value!r}, expected a number, a text, or a list or table of them")
    return str(value)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        if value and all(isinstance(part, list | tuple) for part in value):  # NAME=VALUE, given several times
            return _toml(dict(value))
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's texts and numbers are TOML's, but for characters outside the basic plane, which are written as they are.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
