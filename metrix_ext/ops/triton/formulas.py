"""What the kernels share: the formulas of a term of Eq. (7) and (9), and of their sums. Mirrors csrc/math.h.

A tile is [rows, columns] of terms. Sums over rows stay within a thread, so each column keeps its own partial
sum, a cell, until the end. A cell of exponentials is total * 2^shift, of linear terms the total, and in shift
the number of terms that are not 0.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634074)
LN_2 = tl.constexpr(0.69314718055994530942)
SMALLEST_NORM = tl.constexpr(1e-12)  # the floor of torch.nn.functional.normalize
SMALLEST_SQUARE = tl.constexpr(1e-24)


@triton.jit
def at_least(x, FLOOR: tl.constexpr):
    """The larger of both, NaN of NaN. A tensor, since a constant that a double is compared with becomes a float."""
    floor = tl.full(x.shape, FLOOR, x.dtype)
    return tl.where(x < floor, floor, x)


# ---- who is positive and negative for whom -----------------------------------------------------------------


@triton.jit
def span(positives, mask, a, n, POSITIVE: tl.constexpr):
    """The columns among which all positives, or all negatives, of anchor a are: begin and end."""
    begin = tl.full((), 0, tl.int64)
    end = begin + n
    if POSITIVE and mask is None:
        begin = tl.load(positives + 2 * a)
        end = tl.load(positives + 2 * a + 1)
    return begin, end


@triton.jit
def is_member(positives, own, mask, a, column, inside, n, POSITIVE: tl.constexpr):
    """Whether columns are positives, or negatives, of anchors. a and column broadcast; inside: it exists."""
    if mask is not None:
        label = tl.load(mask + a * n + column, mask=inside, other=0)
        member = label == (1 if POSITIVE else -1)
    else:
        member = (tl.load(positives + 2 * a) <= column) & (column < tl.load(positives + 2 * a + 1))
        member = inside & (member & (column != tl.load(own + a)) if POSITIVE else ~member)
    return member


# ---- one term ----------------------------------------------------------------------------------------------


@triton.jit
def load_lambda(lam, at, used, ONE_LAMBDA: tl.constexpr):
    """lambda of the pairs that are used, 0 elsewhere."""
    return tl.where(used, tl.load(lam), 0) if ONE_LAMBDA else tl.load(lam + at, mask=used, other=0)


@triton.jit
def mixed_coefficients(lam, q_i, q_j, k_ij, RENORMALIZE: tl.constexpr):
    """lambda / nu and (1 - lambda) / nu: s(a, mix_ij) is their combination of s(a, i) and s(a, j)."""
    first, second = lam, 1 - lam
    if RENORMALIZE:
        square = first * first * q_i + second * second * q_j + 2 * first * second * k_ij
        # Keeps a NaN, and makes one of infinity, as the norms of csrc/math.h do.
        inverse = tl.rsqrt(at_least(square, SMALLEST_SQUARE)) + 0 * square
        first *= inverse
        second *= inverse
    return first, second


@triton.jit
def weights_of_tile(used, weight, PAIRS: tl.constexpr):
    """Weights of the terms in the positive and in the negative sum; weight is the label, 0 where a term is not used."""
    one = used.to(weight.dtype)
    if PAIRS == "pos-pos" or PAIRS == "anc-pos":
        positive, negative = one, tl.zeros_like(one)
    elif PAIRS == "neg-neg":
        positive, negative = tl.zeros_like(one), one
    else:
        positive, negative = weight, one - weight
    return positive, negative


@triton.jit
def load_rho(rho, SIDE: tl.constexpr, EXPONENTIAL: tl.constexpr, dtype: tl.constexpr):
    """scale, shift, floor, margin_range of a side from [8] float64; of an exponential one the scale is for base 2."""
    scale = tl.load(rho + 4 * SIDE)
    if EXPONENTIAL:
        scale *= LOG2_E
    shift, floor, margin_range = tl.load(rho + 4 * SIDE + 1), tl.load(rho + 4 * SIDE + 2), tl.load(rho + 4 * SIDE + 3)
    return scale.to(dtype), shift.to(dtype), floor.to(dtype), margin_range.to(dtype)


@triton.jit
def less_margin(s, label, rho, MARGINS: tl.constexpr):
    """What rho is of: a margin that follows the label is taken off the similarity."""
    _scale, _shift, _floor, margin_range = rho
    return s - margin_range * label if MARGINS else s


# ---- sums --------------------------------------------------------------------------------------------------


@triton.jit
def empty_cells(COLUMNS: tl.constexpr, EXPONENTIAL: tl.constexpr, dtype: tl.constexpr):
    nothing = tl.zeros((COLUMNS,), dtype)
    return (nothing - float("inf") if EXPONENTIAL else nothing), nothing


@triton.jit
def add_terms(shift, total, s, label, weight, rho, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr):
    """Adds the terms weight * rho(s) of a tile to its columns' cells; without a weight s does not matter."""
    scale, offset, floor, _margin_range = rho
    s = less_margin(s, label, rho, MARGINS)
    if EXPONENTIAL:
        # The difference is taken in one fused step, before scale blows the rounding of a product up.
        top = tl.maximum(shift, tl.max(tl.where(weight > 0, scale * s, float("-inf")), 0))
        base = tl.where(top == float("-inf"), 0, top)
        terms = weight * tl.exp2(tl.where(weight > 0, scale * s - base[None, :], float("-inf")))
        total = total * tl.exp2(shift - base) + tl.sum(terms, 0)
        shift = top
    else:
        value = scale * s + offset
        terms = weight * tl.where(value < floor, floor, value)
        total += tl.sum(terms, 0)
        shift += tl.sum((terms != 0).to(s.dtype), 0)
    return shift, total


@triton.jit
def add_to_both_sides(
    positive_shift, positive_total, negative_shift, negative_total, s, positive_weight, negative_weight,
    positive_rho, negative_rho, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr,
):  # fmt: skip
    """add_terms for the two sums of Eq. (9): of the same similarities, each by its own weights and rho."""
    label = positive_weight
    positive_shift, positive_total = add_terms(
        positive_shift, positive_total, s, label, positive_weight, positive_rho, EXPONENTIAL, MARGINS
    )
    negative_shift, negative_total = add_terms(
        negative_shift, negative_total, s, label, negative_weight, negative_rho, EXPONENTIAL, MARGINS
    )
    # 0 for finite similarities, NaN otherwise: minus infinity would vanish in an exponential.
    poison = tl.sum(s * 0.0, 0)
    return positive_shift, positive_total + poison, negative_shift, negative_total + poison


@triton.jit
def fold_cells(shift, total, EXPONENTIAL: tl.constexpr):
    """One cell from many, in a fixed order."""
    if EXPONENTIAL:
        top = tl.max(shift, 0)
        base = tl.where(top == float("-inf"), 0, top)
        total *= tl.exp2(shift - base)
        shift = top
    else:
        shift = tl.sum(shift, 0)
    return shift, tl.sum(total, 0)


@triton.jit
def store_sum(sums, rest, index, shift, total, rho, SIDE: tl.constexpr, EXPONENTIAL: tl.constexpr):
    """The result of a cell. The logarithm of an empty sum is minus infinity; rest is what rounding took, or None."""
    if EXPONENTIAL:
        log_sum = (tl.log2(total.to(tl.float64)) + shift.to(tl.float64)) * LN_2 + tl.load(rho + 4 * SIDE + 1)
        total = log_sum.to(total.dtype)
        shift = tl.where(tl.abs(log_sum) < float("inf"), log_sum - total.to(tl.float64), 0).to(total.dtype)
    tl.store(sums + 2 * index + SIDE, total)
    if rest is not None:
        tl.store(rest + 2 * index + SIDE, shift)


# ---- gradients ---------------------------------------------------------------------------------------------


@triton.jit
def load_upstream(sums, rest, grad_sums, rho, a, SIDE: tl.constexpr, EXPONENTIAL: tl.constexpr):
    """What slope needs of a side of anchor a: the sum's logarithm in base 2, and dE/d(sum) times scale.

    The logarithm of an empty sum has no gradient, whatever comes from above.
    """
    log_sum = tl.load(sums + 2 * a + SIDE)
    factor = tl.load(grad_sums + 2 * a + SIDE)
    factor *= tl.load(rho + 4 * SIDE).to(factor.dtype)
    if not EXPONENTIAL:
        factor += 0 * log_sum  # NaN if the sum is not finite
    if EXPONENTIAL:
        empty = log_sum == float("-inf")
        whole = log_sum.to(tl.float64) - tl.load(rho + 4 * SIDE + 1)
        if rest is not None:
            whole += tl.load(rest + 2 * a + SIDE).to(tl.float64)
        exponent = tl.where(empty, 0, whole * LOG2_E)
        log_sum = exponent.to(log_sum.dtype)
        # What its type cannot hold of the logarithm is one factor for the whole sum.
        lost = (log_sum.to(tl.float64) - exponent).to(log_sum.dtype)
        factor = tl.where(empty, 0, factor * tl.exp2(lost))
    return log_sum, factor


@triton.jit
def slope(s, label, weight, rho, upstream, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr):
    """dE/ds of the terms of one side."""
    scale, offset, floor, _margin_range = rho
    s = less_margin(s, label, rho, MARGINS)
    log_sum, factor = upstream
    if EXPONENTIAL:
        share = weight * tl.exp2(tl.where(weight > 0, scale * s - log_sum, float("-inf")))
    else:
        share = tl.where(scale * s + offset <= floor, 0, weight)
    return factor * share


@triton.jit
def slope_of_tile(
    s, used, weight, positive_rho, negative_rho, positive_upstream, negative_upstream,
    PAIRS: tl.constexpr, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr,
):  # fmt: skip
    """dE/ds of the terms of a tile."""
    positive, negative = weights_of_tile(used, weight, PAIRS)
    ds = tl.zeros_like(s)
    if PAIRS != "neg-neg":
        ds += slope(s, weight, positive, positive_rho, positive_upstream, EXPONENTIAL, MARGINS)
    if PAIRS != "pos-pos" and PAIRS != "anc-pos":
        ds += slope(s, weight, negative, negative_rho, negative_upstream, EXPONENTIAL, MARGINS)
    return ds
