"""How the tests compare tensors. Every failure tells the cosine, the relative l2 error and where they differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def relative_error(got: Tensor, want: Tensor, smallest: float = 1e-30) -> float:
    """|got - want| / |want|, l2 norms of what is finite in ``want``.

    Infinite if the shapes differ, something is NaN, or an infinity is not where and what it should be.

    Args:
        smallest: added to |want|, for tensors that cancel to nothing.
    """
    if got.shape != want.shape:
        return math.inf
    got, want = _comparable(got), _comparable(want)
    finite = want.isfinite()
    if not finite.all():
        if not torch.equal(got[~finite], want[~finite]):
            return math.inf
        got, want = got[finite], want[finite]
    error = float((got - want).norm() / (want.norm() + smallest))
    return math.inf if math.isnan(error) else error


def describe(got: Tensor, want: Tensor) -> str:
    """Cosine, relative l2 error, the index of the largest deviation, and the two values there."""
    if got.shape != want.shape:
        return f"shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    got, want = _comparable(got), _comparable(want)
    if not got.numel():
        return "no elements"
    both = got.isfinite() & want.isfinite()
    cosine = torch.nn.functional.cosine_similarity(got[both], want[both], dim=0)
    deviation = (got - want).abs().masked_fill(got == want, 0.0).nan_to_num(nan=math.inf)
    worst = tuple(int(i) for i in torch.unravel_index(deviation.argmax(), deviation.shape))
    places = f"worst at {list(worst)}: got {got[worst]:.9g}, expected {want[worst]:.9g}"
    return f"cosine {cosine:.9f}, relative l2 error {relative_error(got, want):.3g}, {places}"


def assert_near(got: Tensor, want: Tensor, bound: float, what: str = "", smallest: float = 1e-30) -> None:
    """relative_error is at most ``bound``."""
    error = relative_error(got, want, smallest)
    assert error <= bound, f"{what}: error {error:.3g}, allowed {bound:.3g}; {describe(got, want)}"


def assert_elements_near(
    got: Tensor, want: Tensor, rtol: float, atol: float, what: str = "", equal_nan: bool = False
) -> None:
    """|got - want| <= atol + rtol |want| in every element, infinities and (``equal_nan``) NaN where they should be."""
    assert got.shape == want.shape, f"{what}: {describe(got, want)}"
    near = torch.isclose(_comparable(got), _comparable(want), rtol=rtol, atol=atol, equal_nan=equal_nan)
    assert near.all(), f"{what}: {int((~near).sum())} elements beyond {rtol=:g}, {atol=:g}; {describe(got, want)}"


def assert_no_worse(
    got: Tensor,
    naive: Tensor,
    truth: Tensor,
    floor: float,
    what: str = "",
    factor: float = 1.0,
    smallest: float = 1e-30,
) -> None:
    """No further from the truth than ``factor`` times what a plain formula in the same type is, plus a floor."""
    assert_near(got, truth, factor * relative_error(naive, truth, smallest) + floor, what, smallest)


def assert_same_bits(got: Tensors, want: Tensors, what: str = "") -> None:
    """Equal element by element; a NaN is equal to nothing."""
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        assert torch.equal(g, w), f"{what}, tensor {k}: not the same bits; {describe(g, w)}"


def assert_close(got: Tensors, want: Tensors, rtol: float, atol: float = 1e-13) -> None:
    """Tensor by tensor, the largest error in relation to the largest entry."""
    assert len(got) == len(want)
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.shape == w.shape, f"tensor {k}: {describe(g, w)}"
        assert torch.isfinite(g).all(), f"tensor {k} is not finite: {describe(g, w)}"
        error, size = (
            float(x.abs().max()) if x.numel() else 0.0 for x in (_comparable(g) - _comparable(w), _comparable(w))
        )
        assert error <= rtol * size + atol, f"tensor {k}: error {error:.3g}, largest entry {size:.3g}; {describe(g, w)}"


def assert_no_further(got: Tensors, literal: Tensors, truth: Tensors, floor: float, size: float) -> None:
    """Tensor by tensor, the l2 error to the truth against that of a literal formula in the same type.

    The floor is relative to the truth, plus ``size``, the size of what cancels on the way to it.
    """
    for k, (g, n, t) in enumerate(zip(got, literal, truth, strict=True)):
        assert torch.isfinite(g).all(), f"tensor {k} is not finite: {describe(g, t)}"
        error, allowed = (float((_comparable(x) - _comparable(t)).norm()) for x in (g, n))
        allowed += floor * (float(_comparable(t).norm()) + size)
        assert error <= allowed, f"tensor {k}: error {error:.3g}, allowed {allowed:.3g}; {describe(g, t)}"


def assert_zero_gradient(x: Tensor) -> None:
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert not x.grad.any()


def _comparable(x: Tensor) -> Tensor:
    return x.detach().double().cpu()
