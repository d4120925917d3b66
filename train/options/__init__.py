"""The command line.

`groups` declares the options, `values` reads what is given, `config` and `presets` are where else it may come from,
`recipes` and `defaults` fill in what is not.
"""

from .arguments import parse
from .defaults import mixing_options, resolve
from .values import LOSSES

__all__ = ["LOSSES", "mixing_options", "parse", "resolve"]
