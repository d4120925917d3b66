"""The values that options take: each function reads one from its text, or says what was expected instead."""

from __future__ import annotations

import argparse
import math
from typing import Any

LOSSES = ("contrastive", "lifted", "binomial", "ms", "pa", "nca", "proxynca", "proxynca++")
MEASURES = ("map_at_r", "r_precision", "nmi")
LOGGERS = ("tensorboard", "wandb")
WITH_PROXIES = ("pa", "proxynca", "proxynca++")
MIXES = ("input", "feature", "embed")
PAIRS = ("pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos")
MINERS = ("ms", "triplet-margin", "pair-margin", "batch-hard", "batch-easy-hard", "distance-weighted", "angular")


def mixes(text: str) -> tuple[str, ...]:
    return () if text == "none" else names(text, MIXES, "none, ")


def pair_sets(text: str) -> tuple[str, ...]:
    return names(text, PAIRS)


def measures(text: str) -> tuple[str, ...]:
    return () if text == "none" else names(text, MEASURES, "none, ")


def loggers(text: str) -> tuple[str, ...]:
    return () if text == "none" else names(text, LOGGERS, "none, ")


def names(text: str, known: tuple[str, ...], also: str = "") -> tuple[str, ...]:
    given = tuple(text.split(","))
    if not set(given) <= set(known) or len(set(given)) < len(given):
        raise argparse.ArgumentTypeError(f"{text!r} is not of {also}{', '.join(known)}, each at most once")
    return given


def strength(text: str) -> float | str | dict[str, float]:
    if text == "balanced":
        return text
    if "=" not in text:
        return not_negative(text)
    parts = [part.partition("=") for part in text.split(",")]
    pair_sets(",".join(name for name, _, _ in parts))
    return {name: not_negative(value) for name, _, value in parts}


def margins(text: str) -> tuple[float, float]:
    parts = [finite(part) for part in text.split(",")]
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as 1,0.5")
    return parts[0], parts[1]


def hard_negatives(text: str) -> int | str | dict[str, int | str]:
    def count(text: str) -> int | str:
        return text if text == "all" else at_least(1)(text)

    if "=" not in text:
        return count(text)
    parts = [part.partition("=") for part in text.split(",")]
    names(",".join(name for name, _, _ in parts), MIXES)
    return {name: count(value) for name, _, value in parts}


def interpolation(text: str) -> str | float:
    if text in ("pair", "batch"):
        return text
    value = number(text, "pair, batch or a number from 0 to 1")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, float(value)
    except ValueError:
        return name, value


def steps(text: str) -> int | tuple[int, ...]:
    """A period, or the epochs themselves."""
    if "," not in text:
        return at_least(0)(text)
    epochs = tuple(at_least(1)(part) for part in text.split(",") if part)
    if list(epochs) != sorted(set(epochs)):
        raise argparse.ArgumentTypeError(f"{text!r} are not ascending epochs")
    return epochs


def ks(text: str) -> tuple[int, ...]:
    return tuple(at_least(1)(part) for part in text.split(","))


def at_least(lowest: int) -> Any:
    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{value} is below {lowest}")
        return value

    return integer


def between(lowest: int, highest: int, why: str) -> Any:
    """`why` the highest is the highest."""

    def integer(text: str) -> int:
        value: int = at_least(lowest)(text)
        if value > highest:
            raise argparse.ArgumentTypeError(f"{value} is above {highest}: {why}")
        return value

    return integer


SEED = between(0, 2**32 - 1, "numpy's generators take seeds of 32 bits")


def share(text: str) -> float:
    value = not_negative(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text} is not below 1")
    return value


def fraction(text: str) -> float:
    value = share(text)
    if value > 0.5:
        raise argparse.ArgumentTypeError(f"{text} is above 0.5: most of the training classes would not be trained on")
    return value


def positive(text: str) -> float:
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is not positive")
    return value


def alpha(text: str) -> float:
    value = positive(text)
    if value > 1e6:
        raise argparse.ArgumentTypeError(f"{text} is above 1e6: lambda is 0.5 then, which --lam 0.5 says")
    return value


def not_negative(text: str) -> float:
    value = number(text, "a number")
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def finite(text: str) -> float:
    value = number(text, "a number")
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
