"""Numbers that users pass: plain and NumPy ones are accepted, what only looks like one is refused by name."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

MOST = 2**63 - 1  # what the kernels count with


def check_number(name: str, value: Any, above: float = -math.inf, below: float = math.inf) -> float:
    """A finite number between the limits, which are excluded.

    Raises:
        TypeError, ValueError: it is none.
    """
    wanted = "a finite number" + (f" above {above:g}" if above > -math.inf else "")
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, expected {wanted}")
    if not (math.isfinite(value) and above < float(value) < below):
        raise ValueError(f"{name}: got {value}, expected {wanted}")
    return float(value)


def check_share(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r} ({type(value).__name__}), expected a number from 0 to 1")
    if not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"{name}: got {value}, expected a number from 0 to 1")
    return float(value)


def check_whole(name: str, value: Any, least: int = 1, most: int = MOST, expected: str | None = None) -> int:
    """A whole number from least to most.

    Raises:
        TypeError, ValueError: it is none.
    """
    wanted = expected or f"a whole number of at least {least}"
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, expected {wanted}")
    if not least <= int(value) <= most:
        raise ValueError(
            f"{name}: got {value}, expected {wanted}" + (f" and at most {most}" if int(value) > most else "")
        )
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, expected True or False")
    return value


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(choices)}")
    return value
