"""One line of the results."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

OK = "ok"


@dataclass(frozen=True)
class Row:
    """What one peer did with one problem. Times in milliseconds; None where there is no such number.

    Attributes:
        status: "ok", or why there is no time: a wrong result, or what ended it and where.
        error: relative, the larger of that of the loss and of its gradients.
        exact_by: what computed what it was compared with.
        side_by_side: whether peers were timed in turn in one process; else alone.
        memory_mib: peak on top of what the process holds before.
        kernels: launched on a GPU by forward and backward.
        floor_ms: predicted at the device's limits (counts.py); share: floor over measured time.
        bound: the resource that takes most of the floor.
    """

    case: str
    peer: str
    status: str = OK
    n: int | None = None
    k: int | None = None
    c: int | None = None
    d: int | None = None
    pairs: str = ""
    lam: str | float = ""
    renormalize: bool | None = None
    detail: str = ""
    error: float | None = None
    exact_by: str = ""
    forward: float | None = None
    forward_20: float | None = None
    forward_80: float | None = None
    backward: float | None = None
    backward_20: float | None = None
    backward_80: float | None = None
    both: float | None = None
    both_20: float | None = None
    both_80: float | None = None
    rounds: int | None = None
    side_by_side: bool | None = None
    memory_mib: float | None = None
    kernels: int | None = None
    floor_ms: float | None = None
    share: float | None = None
    bound: str = ""

    @property
    def time(self) -> float | None:
        """Of all that the problem asks for."""
        return self.both if self.both is not None else self.forward

    def problem(self) -> tuple[object, ...]:
        """What rows of the same problem have in common."""
        return self.n, self.k, self.c, self.d, self.pairs, self.lam, self.renormalize, self.detail

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Row))
