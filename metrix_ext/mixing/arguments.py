"""What Metrix takes: names of mixes, strengths, hard negatives, sources and encoders, checked and in one form each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

MIXES = ("input", "feature", "embed")
STRENGTH = {"pos-neg": 0.4, "anc-neg": 0.3}  # section 4.2
HARD_NEGATIVES = {"input": 3}  # section 4.1; the other mixes take all negatives

Encoder = Callable[[Tensor], Tensor]


def check_names(argument: str, given: str | Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{argument}: got {given!r}, expected one or more of {', '.join(known)}")
    return names


def strengths_of(strength: float | Mapping[str, float] | None, pairs: tuple[str, ...]) -> dict[str, float]:
    if strength is None:
        strength = {name: STRENGTH.get(name, STRENGTH["pos-neg"]) for name in pairs}
    elif not isinstance(strength, Mapping):
        strength = dict.fromkeys(pairs, strength)
    for name in pairs:
        if name not in strength:
            raise ValueError(f"strength: got {dict(strength)}, expected a number for {name!r} too")
        if not 0.0 <= strength[name] < float("inf"):
            raise ValueError(f"strength: got {strength[name]} for {name!r}, expected a number from 0 on")
    return {name: float(strength[name]) for name in pairs}


def hard_negatives_of(given: int | str | Mapping[str, int | str] | None) -> dict[str, int | None]:
    """One value per mix; None is all."""
    chosen: dict[str, int | None] = {mix: HARD_NEGATIVES.get(mix) for mix in MIXES}
    if given is None:
        return chosen
    for mix, value in (given if isinstance(given, Mapping) else dict.fromkeys(MIXES, given)).items():
        if mix not in MIXES:
            raise ValueError(f"hard_negatives: got {mix!r}, expected one of {', '.join(MIXES)}")
        if value == "all":
            chosen[mix] = None
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            chosen[mix] = value
        else:
            raise ValueError(f"hard_negatives: got {value!r}, expected a positive number, 'all' or None")
    return chosen


def source_of(mix: str, source: Tensor | Mapping[str, Tensor] | None, examples: int) -> Tensor:
    x = source.get(mix) if isinstance(source, Mapping) else source
    if x is None:
        raise ValueError(f"source: missing, mix={mix!r} needs it")
    if not isinstance(x, Tensor):
        raise TypeError(f"source: got {type(x).__name__}, expected a tensor")
    if x.dim() < 2 or len(x) != examples:
        raise ValueError(f"source: got {list(x.shape)}, expected {examples} rows as embeddings")
    return x


def encoder_of(mix: str, encode: Encoder | Mapping[str, Encoder] | None) -> Encoder:
    encoder = encode.get(mix) if isinstance(encode, Mapping) else encode
    if encoder is None:
        raise ValueError(f"encode: missing, mix={mix!r} needs it")
    if not callable(encoder):
        raise TypeError(f"encode: got {type(encoder).__name__}, expected something to call")
    return encoder


def draw(options: tuple[str, ...]) -> str:
    """One of the options, uniformly; with a single one the generator is left alone."""
    if len(options) == 1:
        return options[0]
    return options[int(torch.randint(len(options), ()).item())]
