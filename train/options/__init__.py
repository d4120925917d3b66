"""The command line: `arguments` declares it, `values` reads what is given, `defaults` fills in what is not."""

from .arguments import parse
from .defaults import mixing_options, resolve
from .values import LOSSES

__all__ = ["LOSSES", "mixing_options", "parse", "resolve"]
