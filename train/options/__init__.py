"""The command line.

`groups` declares the options, `values` reads what is given, `config` and `presets` are where else it may come from,
`recipes` and `defaults` fill in what is not.
"""

import argparse
from pathlib import Path

from . import config
from .arguments import parse, parser
from .config import plain, require_same
from .defaults import mixing_options, resolve
from .values import LOSSES

__all__ = ["LOSSES", "mixing_options", "parse", "plain", "require_same", "resolve", "write_config"]


def write_config(folder: Path, args: argparse.Namespace) -> None:
    """The resolved options of a run into its folder, as --config takes them again."""
    config.write(folder / config.CONFIG, vars(args), parser())
