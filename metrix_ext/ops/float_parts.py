"""float32 products on the tensor cores of a GPU, which multiply bfloat16: every number in three parts.

x = high + middle + low, each the bfloat16 next to what the ones before have left over: 8 bits each, as many as the 24
of float32. Of the nine products of parts of a and b six reach the 24 bits of the result:

    a b = high high + (high middle + middle high) + (high low + middle middle + low high)

Products of bfloat16 are exact in float32, but tensor cores cut off what does not fit when they add 16 of them to a sum
(Fasi et al. 2021; Khattak and Mikaitis 2025, arXiv 2512.07004): a sum of many steps comes out too small. So the small
products are added first, while the sum is small, and those of the high parts in pieces, each of which begins at 0 and
is then added to the others with rounding to nearest. docs/numbers.md has what is left of that error.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import native
from .launch import where

# Products of high parts that tensor cores add before the sum is rounded: 16 steps of 16.
PIECE = 256
# Of n^2 d, n = 4,096 at d = 512: below, splitting and further launches take what the products save.
SMALLEST = 2**33
# Rows that begin at a multiple of 16 bytes are what cuBLAS has fast kernels for.
ALIGNED = 8

_WANTED = os.environ.get("METRIX_TENSOR_CORES", "1")
if _WANTED not in ("0", "1"):
    raise ValueError(f"METRIX_TENSOR_CORES: got {_WANTED!r}, expected 0 or 1")

# A product is added to a sum in float32 by cuBLAS itself; before, by a kernel of its own.
_cublas_adds = torch.torch_version.TorchVersion(torch.__version__) >= "2.11"

Pair = tuple[Tensor, Tensor]


class Parts(NamedTuple):
    """Three bfloat16 matrices that a float32 matrix is the sum of."""

    high: Tensor
    middle: Tensor
    low: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Parts:
        high = x.bfloat16()
        rest = x - high
        middle = rest.bfloat16()
        return cls(high, middle, (rest - middle).bfloat16())

    @classmethod
    def of_symmetric_sum(cls, x: Tensor) -> Parts:
        """Those of x + x^T for x [n, n] on a CUDA device, in one pass over memory."""
        parts = x.new_empty((3, *x.shape), dtype=torch.bfloat16)
        native.lib().symmetric_parts(where(x), rows=len(x), x=x.contiguous(), parts=parts)
        return cls(*parts)


def apply(x: Tensor) -> bool:
    """Whether the inner products of the rows of x are faster in parts, and may be: METRIX_TENSOR_CORES=0 says no."""
    rows, columns = x.shape
    return (
        rows**2 * columns >= SMALLEST
        and rows % ALIGNED == columns % ALIGNED == 0
        and x.is_cuda
        and x.dtype == torch.float32
        and _WANTED == "1"
        and _multiply_bfloat16(x.device)
    )


@functools.cache
def _multiply_bfloat16(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def gram(x: Tensor) -> Tensor:
    """x x^T for x [n, d]: a product of [n, 5 d + PIECE] matrices, and one for every further piece."""
    parts, columns = Parts.of(x), x.shape[1]
    pairs = [*_small_pairs(parts, parts), (parts.high, parts.high)]
    left, right = (torch.cat(factors, dim=1) for factors in zip(*pairs, strict=True))
    ends = [*range(5 * columns + PIECE, 6 * columns, PIECE), 6 * columns]
    pieces = [slice(begin, end) for begin, end in itertools.pairwise((0, *ends))]
    return _sum_of_products((left[:, piece], right[:, piece].T) for piece in pieces)


def symmetric_product(weights: Tensor, x: Tensor) -> Tensor:
    """(weights + weights^T) x for weights [n, n] and x [n, d]."""
    a, b = Parts.of_symmetric_sum(weights), Parts.of(x)
    pieces = zip(a.high.split(PIECE, dim=1), b.high.split(PIECE), strict=True)
    return _sum_of_products([*_small_pairs(a, b), *pieces])


def _small_pairs(a: Parts, b: Parts) -> list[Pair]:
    """All pairs of parts but both high ones, the smallest first."""
    return [(a.low, b.high), (a.high, b.low), (a.middle, b.middle), (a.middle, b.high), (a.high, b.middle)]


def _sum_of_products(pairs: Iterable[Pair]) -> Tensor:
    """The sum of a b over pairs, in float32."""
    total = None
    for a, b in pairs:
        total = _product(a, b) if total is None else _add_product(total, a, b)
    assert total is not None
    return total


def _product(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a, b, out_dtype=torch.float32)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if _cublas_adds:
        return torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    return total.add_(_product(a, b))
