"""Products of a Gram matrix on a GPU, in plain float32 and in parts of bfloat16: how long, and how exact.

python -m bench.products [--n 2048 8192] [--d 512] [--pieces 128 256 512]

Prints a row of a table for each way: milliseconds of x x^T and of (grad + grad^T) x, medians; the error of the
similarities of unit rows in the root mean square and in the mean, which is not 0 where tensor cores cut off; and the
relative l2 error of the second product. Truth is float64 on the same device.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from metrix_ext.ops import float_parts
from metrix_ext.ops.precision import full_precision

from .timing.measure import Clock

ROUNDS = 15
COMMON = 0.9  # of all rows, so that similarities are of one sign: what is cut off adds up
Row = tuple[str, ...]
HEAD: Row = (
    "n",
    "d",
    "products",
    "x x^T, ms",
    "(grad + grad^T) x, ms",
    "rms error",
    "mean error",
    "second, rel. error",
)

Way = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]

PLAIN: Way = (lambda x: x @ x.T, lambda grad, x: (grad + grad.T) @ x)
PARTS: Way = (float_parts.gram, float_parts.symmetric_product)


def row(n: int, d: int, name: str, way: Way, device: torch.device) -> Row:
    forward, backward = way
    generator = torch.Generator(device).manual_seed(0)
    x, common, grad = (torch.randn(m, k, generator=generator, device=device) for m, k in ((n, d), (1, d), (n, n)))
    x = F.normalize(x + COMMON * common)
    times = [median(step, device) for step in (partial(forward, x), partial(backward, grad, x))]
    some = x[:1024].double()  # a float64 matrix of all rows may not fit
    errors = forward(x)[: len(some), : len(some)] - some @ some.T
    truth = (grad + grad.T)[: len(some)].double() @ x.double()
    second = (backward(grad, x)[: len(some)] - truth).norm() / truth.norm()
    figures = errors.square().mean().sqrt(), errors.mean(), second
    return str(n), str(d), name, *(f"{time:.3f}" for time in times), *(f"{figure:.1e}" for figure in figures)


def median(step: Callable[[], Tensor], device: torch.device) -> float:
    clock = Clock(device)
    step()
    return statistics.median(clock.time(step) for _ in range(ROUNDS))


def rows(ns: Sequence[int], ds: Sequence[int], pieces: Sequence[int], device: torch.device) -> Iterator[Row]:
    kept = float_parts.PIECE
    try:
        for n in ns:
            for d in ds:
                with full_precision(device):
                    yield row(n, d, "plain", PLAIN, device)
                for float_parts.PIECE in pieces:
                    yield row(n, d, f"parts, pieces of {float_parts.PIECE}", PARTS, device)
    finally:
        float_parts.PIECE = kept


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--d", type=int, nargs="+", default=[512])
    parser.add_argument("--pieces", type=int, nargs="+", default=[128, 256, 512])
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("bench.products: PyTorch finds no CUDA device")
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for figures in rows(given.n, given.d, given.pieces, torch.device("cuda")):
        print(f"| {' | '.join(figures)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
