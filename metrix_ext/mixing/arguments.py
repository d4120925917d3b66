"""What Metrix takes: names of mixes, strengths, hard negatives, sources and encoders, checked and in one form each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batch.checks import FLOATS
from ..ops.tracing import values_are_known
from ..terms.checks import check_choice, check_number, check_share, check_whole
from ..terms.pair_sets import PAIR_SETS

MIXES = ("input", "feature", "embed")
STRENGTH = {"pos-neg": 0.4, "anc-neg": 0.3}  # section 4.2
HARD_NEGATIVES = {"input": 3}  # section 4.1; the other mixes take all negatives

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # 0 and 1 are numbers from 0 to 1, too

Encoder = Callable[[Tensor], Tensor]


def check_names(argument: str, given: str | Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    if isinstance(given, Sequence) and given:
        names = (given,) if isinstance(given, str) else tuple(given)
        if all(isinstance(name, str) and name in known for name in names):
            return names
    none = isinstance(given, Sequence) and not given
    raise ValueError(f"{argument}: got {'none, ' if none else ''}{given!r}, expected one or more of {', '.join(known)}")


def strengths_of(strength: float | Mapping[str, float] | None, pairs: tuple[str, ...]) -> dict[str, float]:
    if strength is None:
        strength = {name: STRENGTH.get(name, STRENGTH["pos-neg"]) for name in pairs}
    elif not isinstance(strength, Mapping):
        strength = dict.fromkeys(pairs, strength)
    for name in strength:
        check_choice("strength", name, PAIR_SETS)
    for name in pairs:
        if name not in strength:
            raise ValueError(f"strength: got {dict(strength)}, expected a number for {name!r} too")
        if check_number("strength", strength[name]) < 0:
            raise ValueError(f"strength: got {strength[name]} for {name!r}, expected a number from 0 on")
    return {name: float(strength[name]) for name in pairs}


def margins_of(given: Sequence[float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise ValueError(f"mixed_margins: got {given!r}, expected two numbers (m_plus, m_minus) or None")
    return check_number("mixed_margins", given[0]), check_number("mixed_margins", given[1])


def hard_negatives_of(given: int | str | Mapping[str, int | str] | None) -> dict[str, int | None]:
    """One value per mix; None is all."""
    chosen: dict[str, int | None] = {mix: HARD_NEGATIVES.get(mix) for mix in MIXES}
    if given is None:
        return chosen
    wanted = "a positive whole number, 'all' or None"
    for mix, value in (given if isinstance(given, Mapping) else dict.fromkeys(MIXES, given)).items():
        check_choice("hard_negatives", mix, MIXES)
        is_all = isinstance(value, str) and value == "all"
        chosen[mix] = None if is_all else check_whole("hard_negatives", value, expected=wanted)
    return chosen


def lam_of(given: Any) -> str | float | Tensor:
    """lambda as Metrix takes it: a way to draw it, a number, or a tensor."""
    if isinstance(given, str):
        return check_choice("lam", given, ("pair", "batch"))
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
    if not isinstance(given, Tensor):
        return check_share("lam", given)
    check_lam_values(given)
    return given


def check_lam_values(lam: Tensor) -> None:
    """Raises TypeError or ValueError unless all are numbers from 0 to 1, as far as that can be seen without waiting."""
    if lam.layout != torch.strided or lam.dtype not in (*FLOATS, *WHOLE):
        raise TypeError(f"lam: got a tensor that is {lam.dtype}, {lam.layout}, expected numbers from 0 to 1")
    if values_are_known(lam):
        values = lam.detach()
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            raise ValueError(f"lam: got {values[wrong][0].item():g}, expected numbers from 0 to 1")


def seed_of(seed: Any, device: torch.device) -> int | Tensor:
    """A given seed, or one drawn from torch's default generator of the device."""
    if seed is None:
        return torch.randint(2**63 - 1, (), device=device)
    if not isinstance(seed, Tensor):
        return check_whole("seed", seed, least=-(2**63), expected="a signed 64-bit integer")
    if seed.is_floating_point() or seed.is_complex() or seed.dtype == torch.bool or seed.numel() != 1:
        raise ValueError(f"seed: got {seed.dtype} {list(seed.shape)}, expected one signed 64-bit integer")
    return seed.to(torch.int64)


def source_of(
    mix: str, source: Tensor | Mapping[str, Tensor] | None, examples: int, device: torch.device, of: str = "embeddings"
) -> Tensor:
    """What is mixed, a row for each of the examples, which the caller knows by the name ``of``."""
    x = source.get(mix) if isinstance(source, Mapping) else source
    if x is None:
        raise ValueError(f"source: missing, mix={mix!r} needs it")
    if not isinstance(x, Tensor):
        raise TypeError(f"source: got {type(x).__name__}, expected a tensor")
    if x.layout != torch.strided or x.dtype not in FLOATS:
        what = f"a tensor that is {x.layout}".replace("torch.", "") if x.layout != torch.strided else str(x.dtype)
        raise TypeError(f"source: got {what}, expected float16, bfloat16, float32 or float64, since it is mixed")
    if x.dim() < 2 or len(x) != examples or 0 in x.shape[1:]:
        raise ValueError(f"source: got {list(x.shape)}, expected {examples} rows of numbers as {of}")
    if x.device != device:
        raise ValueError(f"source: is on {x.device}, expected {device} as embeddings")
    return x


def encoder_of(mix: str, encode: Encoder | Mapping[str, Encoder] | None, device: torch.device) -> Encoder:
    encoder = encode.get(mix) if isinstance(encode, Mapping) else encode
    if encoder is None:
        raise ValueError(f"encode: missing, mix={mix!r} needs it")
    if not callable(encoder):
        raise TypeError(f"encode: got {type(encoder).__name__}, expected something to call")
    if isinstance(encoder, nn.Module):
        elsewhere = next((p.device for p in encoder.parameters() if p.device != device), device)
        if elsewhere != device:
            raise ValueError(f"encode: is on {elsewhere}, expected {device} as embeddings")
    return encoder


def draw(options: tuple[str, ...]) -> str:
    """One of the options, uniformly; with a single one the generator is left alone."""
    if len(options) == 1:
        return options[0]
    return options[int(torch.randint(len(options), (), device="cpu").item())]
