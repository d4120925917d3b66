"""lambda of every pair of the batch: a pure function of (seed, i, j)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backend, native, reference
from ..terms.beta import quantile_polynomial
from .checks.pair_lambda import check_pair_lambda
from .launch import where
from .library import LIBRARY, implement


def pair_lambda(
    seed: int | Tensor, rows: Tensor, columns: Tensor, alpha: float = 2.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """lambda_ij ~ Beta(alpha, alpha) for every row index i and column index j, with lambda_ji = 1 - lambda_ij.

    Philox-4x32-10 on the counter (min, max) of the two indices under the key ``seed``, then the Beta quantile
    function. The same seed gives the same numbers on every backend, device and split of the work.

    Args:
        seed: an int, or an int64 tensor of one element on the device of ``rows`` (a captured CUDA graph that draws
            it anew then draws new lambdas).
        rows: [r] int64, global indices of examples, not negative.
        columns: [c] int64, likewise, on the same device.
        alpha: at least 0.05.
        dtype: float32 or float64; computed in double precision and rounded.

    Returns:
        [r, c]; one half where i = j.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_pair_lambda(seed, rows, columns, alpha, dtype)
    if not isinstance(seed, Tensor):
        seed = torch.full((), int(seed), dtype=torch.int64, device=rows.device)
    if backend.choose(rows.device) == "reference":
        return reference.pair_lambda(seed, rows, columns, alpha, dtype)
    return _run(seed, rows, columns, float(alpha), dtype)


LIBRARY.define("pair_lambda(Tensor seed, Tensor rows, Tensor columns, float alpha, ScalarType dtype) -> Tensor")


def _pair_lambda(seed: Tensor, rows: Tensor, columns: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    if backend.choose(rows.device) == "triton":
        from .triton import pair_lambda as kernels

        return kernels.pair_lambda(seed, rows, columns, alpha, dtype)
    rows, columns = rows.contiguous(), columns.contiguous()
    lam = rows.new_empty((len(rows), len(columns)), dtype=dtype)
    native.typed("pair_lambda", dtype)(
        where(rows),
        seed=seed,
        rows=rows,
        row_count=len(rows),
        columns=columns,
        column_count=len(columns),
        quantile=quantile_polynomial(alpha),
        lam=lam,
    )
    return lam


@torch.library.register_fake("metrix_ext::pair_lambda", lib=LIBRARY)
def _fake(seed: Tensor, rows: Tensor, columns: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    return rows.new_empty((rows.shape[0], columns.shape[0]), dtype=dtype)


_run = implement("pair_lambda", _pair_lambda)
