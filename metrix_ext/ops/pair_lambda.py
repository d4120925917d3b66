"""lambda of every pair of the batch: a pure function of (seed, i, j)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backend, reference
from ..terms.beta import check_alpha, quantile_polynomial
from .launch import launch
from .library import LIBRARY, implement

LIBRARY.define("pair_lambda(Tensor seed, Tensor rows, Tensor columns, float alpha, ScalarType dtype) -> Tensor")


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
    check_alpha(alpha)
    for name, index in (("rows", rows), ("columns", columns)):
        if index.dtype != torch.int64 or index.dim() != 1:
            raise ValueError(f"{name}: got {index.dtype} {list(index.shape)}, expected int64 [number of indices]")
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype: got {dtype}, expected torch.float32 or torch.float64")
    if isinstance(seed, int):
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed: got {seed}, expected a signed 64-bit integer")
        seed = torch.full((), seed, dtype=torch.int64, device=rows.device)
    elif seed.dtype != torch.int64 or seed.numel() != 1:
        raise ValueError(f"seed: got {seed.dtype} {list(seed.shape)}, expected int64 with one element")
    for name, tensor in (("seed", seed), ("columns", columns)):
        if tensor.device != rows.device:
            raise ValueError(f"{name}: is on {tensor.device}, expected {rows.device} as rows")
    if backend.choose(rows.device) == "reference":
        return reference.pair_lambda(seed, rows, columns, alpha, dtype)
    return _run(seed, rows, columns, float(alpha), dtype)


@torch.library.register_fake("metrix_ext::pair_lambda", lib=LIBRARY)
def _fake(seed: Tensor, rows: Tensor, columns: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    return rows.new_empty((rows.shape[0], columns.shape[0]), dtype=dtype)


def _pair_lambda(seed: Tensor, rows: Tensor, columns: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    if backend.choose(rows.device) == "triton":
        from .triton import pair_lambda as kernels

        return kernels.pair_lambda(seed, rows, columns, alpha, dtype)
    rows, columns = rows.contiguous(), columns.contiguous()
    out = rows.new_empty((rows.shape[0], columns.shape[0]), dtype=dtype)
    launch(
        "pair_lambda",
        dtype,
        rows,
        seed.data_ptr(),
        rows.data_ptr(),
        rows.shape[0],
        columns.data_ptr(),
        columns.shape[0],
        quantile_polynomial(alpha),
        out.data_ptr(),
    )
    return out


_run = implement("pair_lambda", _pair_lambda)
