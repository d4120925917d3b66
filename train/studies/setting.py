"""One run of a study as data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UserError

TRAINED = ("head", "last block", "last five blocks", "scratch")
CONTROLS = ("none", "unmixed")


@dataclass(frozen=True)
class Setting:
    """All that a run follows from.

    data: a .npz of x and y. image_size: what the frozen network is given. trained: which part learns. classes: of the
    training half, 0: all but those for validation. mix: "none", "embed" or "feature". control "unmixed": the term of
    the mixes, with its formula, its margins and its strength, of the examples themselves. mix_from: the share of the
    steps after which the second term begins. split: seed of the halves of the classes; seed: of everything else.
    """

    data: str = ""
    image_size: int = 96
    trained: str = "head"
    classes: int = 0
    steps: int = 600
    batch_size: int = 100
    images_per_class: int = 5
    embedding_size: int = 128
    loss: str = "ms"
    loss_options: dict[str, Any] = field(default_factory=dict)
    mix: str = "none"
    pairs: tuple[str, ...] = ("pos-neg", "anc-neg")
    strength: float | str | None = None
    gradient_share: float = 0.5
    lam: str | float = "pair"
    alpha: float = 2.0
    hard_negatives: int | None = None
    renormalize: bool = False
    mixed_margins: tuple[float, float] | None = None
    mixed_loss: str | None = None
    mixed_loss_options: dict[str, Any] = field(default_factory=dict)
    control: str = "none"
    mix_from: float = 0.0
    lr: float = 1e-3
    weight_decay: float = 1e-4
    dropout: float = 0.0
    flips: bool = False
    split: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("trained", self.trained, TRAINED)
        one_of("mix", self.mix, ("none", "embed", "feature"))
        one_of("control", self.control, CONTROLS)
        if self.control != "none" and self.mix != "none":
            raise UserError(f"control {self.control!r} is a run without mixing, but mix is {self.mix!r}")

    @property
    def has_second_term(self) -> bool:
        return self.mix != "none" or self.control != "none"

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def key(self) -> str:
        """The same for the same setting, on every machine. The data set is known by its file's name."""
        named = {**self.plain(), "data": self.data.rpartition("/")[2]}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} is {value!r}, expected {' or '.join(map(repr, known))}")
