"""The settings that a TOML file lists: [defaults], then one [[arms]] for each block of a product.

[defaults]
data = "emoji64.npz"
lr = [1e-3, 3e-3]            # several values: a run for each
[[arms]]
loss = ["ms", "contrastive"]
[[arms]]
mix = ["embed", "feature"]
strength = [0.1, 0.4, 1.0]
mixed_margins = [[1.0, 0.5]] # a value that is itself a list stands in another one
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import reading, require_file
from .setting import Setting

KNOWN = tuple(field.name for field in fields(Setting))
LISTS = ("pairs", "mixed_margins")


def read(path: Path) -> list[Setting]:
    """Each once, seed by seed: a study that is not finished has all arms of its first seeds."""
    with reading(path, "a TOML file of settings"):
        require_file(path)
        tables = _parse(path.read_text("utf-8"))
    unknown = set(tables) - {"defaults", "arms"}
    if unknown or not tables.get("arms"):
        raise UserError(f"{path} has {', '.join(sorted(tables)) or 'nothing'}, expected [defaults] and some [[arms]]")
    found = [
        setting for arm in tables["arms"] for setting in _product({**tables.get("defaults", {}), **arm}, str(path))
    ]
    by_key = {setting.key: setting for setting in found}
    return sorted(by_key.values(), key=lambda setting: (setting.seed, setting.split))


def _product(table: Mapping[str, Any], path: str) -> Iterator[Setting]:
    for name in table:
        if name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, 1)
            raise UserError(f"{path}: there is no setting {name}{f', perhaps {close[0]}' if close else ''}")
    for values in product(*(_values(name, value) for name, value in table.items())):
        yield setting_of(dict(zip(table, values, strict=True)), path)


def setting_of(values: Mapping[str, Any], path: str) -> Setting:
    """From plain values: lists where a setting has tuples."""
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if isinstance(plain.get("pairs"), str):
        plain["pairs"] = (plain["pairs"],)
    try:
        return Setting(**plain)
    except TypeError as error:
        raise UserError(f"{path}: {error}") from None


def _values(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    several = not (name in LISTS and value and not isinstance(value[0], list))
    return value if several else [value]


def _parse(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads(text)
