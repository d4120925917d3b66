"""The ops under the losses, each with its schema, checks, fake, autograd formula and dispatch in one file."""

from .pair_lambda import pair_lambda
from .pair_sums import pair_sums

__all__ = ["pair_lambda", "pair_sums"]
