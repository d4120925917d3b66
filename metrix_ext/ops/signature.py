"""An op's arguments as one definition: the fields of a NamedTuple are its schema, and name its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_type_hints

from torch import Tensor

SymInt = Annotated[int, "which torch.compile may leave open"]

_SCHEMA_TYPES = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    bool: "bool",
    int: "int",
    SymInt: "SymInt",
    float: "float",
    str: "str",
    list[bool]: "bool[]",
    list[float]: "float[]",
}

Arguments = TypeVar("Arguments", bound=NamedTuple)


def schema(fields: type) -> str:
    """The annotated fields of a class as arguments in a schema of torch.library."""
    hints = get_type_hints(fields, include_extras=True)
    return ", ".join(f"{_SCHEMA_TYPES[hint]} {name}" for name, hint in hints.items())


class Signature(Generic[Arguments]):
    """The arguments of an op and of its gradient.

    Attributes:
        schema: how a schema of torch.library spells them.
    """

    def __init__(self, arguments: type[Arguments]) -> None:
        self.schema = schema(arguments)
        self._fields = arguments._fields
        self._make = partial(tuple.__new__, arguments)  # as arguments._make, which takes three times as long
        hints = list(get_type_hints(arguments).values())
        tensors = [k for k, hint in enumerate(hints) if hint in (Tensor, Tensor | None)]
        others = [k for k in range(len(hints)) if k not in tensors]
        saved_order = [*tensors, *others]
        self._tensor_count = len(tensors)
        self._tensors, self._others = _at(tensors), _at(others)
        self._in_order = _at([saved_order.index(k) for k in range(len(hints))])

    def contiguous(self, arguments: Sequence[Any]) -> Arguments:
        """With contiguous tensors. Of the inputs of an op, which may have more behind these."""
        tensors = [None if t is None else t.contiguous() for t in self._tensors(arguments)]
        return self._make(self._in_order((*tensors, *self._others(arguments))))

    def save(self, ctx: Any, arguments: Sequence[Any], *outputs: Tensor) -> None:
        """Leaves outputs and arguments to backward; behind the arguments may be more inputs."""
        ctx.save_for_backward(*outputs, *self._tensors(arguments))
        ctx.others = self._others(arguments)

    def saved(self, ctx: Any) -> tuple[tuple[Tensor, ...], Arguments]:
        """What ``save`` left: outputs and arguments."""
        saved = ctx.saved_tensors  # unpacked at every access
        outputs, tensors = saved[: -self._tensor_count], saved[-self._tensor_count :]
        return outputs, self._make(self._in_order((*tensors, *ctx.others)))

    def gradients(self, **of: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient of every argument: those given by name, and None for the others."""
        return tuple(map(of.get, self._fields))


def _at(places: list[int]) -> itemgetter[Any]:
    """The elements at some places, a tuple of at least two."""
    return itemgetter(*places)
