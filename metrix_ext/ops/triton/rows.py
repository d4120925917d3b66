"""pair_sums where an anchor has a term per example: the clean sums, and the mixes of the anchor with it.

One program per anchor walks its row of the similarities and writes its results whole.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .formulas import (
    add_to_both_sides,
    empty_cells,
    fold_cells,
    is_member,
    load_lambda,
    load_rho,
    load_upstream,
    mixed_coefficients,
    slope,
    store_sum,
)


@triton.jit
def terms_of_row(
    similarity, positives, own, mask, lam, gram, sqnorm, self_similarity, self_sqnorm, a, column, n, sqnorm_stride,
    self_stride, PAIRS: tl.constexpr, ONE_LAMBDA: tl.constexpr,
):  # fmt: skip
    """s of the terms of anchor a, the coefficients that mix it, and the weights of the terms in both sums."""
    dtype: tl.constexpr = similarity.dtype.element_ty
    inside = column < n
    at = a * n + column
    if PAIRS == "clean":
        positive = is_member(positives, own, mask, a, column, inside, n, True)
        negative = is_member(positives, own, mask, a, column, inside, n, False)
        s = tl.load(similarity + at, mask=positive | negative, other=0)
        first, second = tl.zeros_like(s), tl.full(s.shape, 1, dtype)
        positive_weight, negative_weight = positive.to(dtype), negative.to(dtype)
    else:
        used = is_member(positives, own, mask, a, column, inside, n, PAIRS == "anc-pos")
        s_j = tl.load(similarity + at, mask=used, other=0)
        weight = load_lambda(lam, at, used, ONE_LAMBDA)
        q_i, q_j, k_ij = weight, weight, weight
        if gram is not None:
            q_i = tl.load(self_sqnorm + a * self_stride)
            q_j = tl.load(sqnorm + column.to(tl.int64) * sqnorm_stride, mask=used, other=0)
            k_ij = tl.load(gram + at, mask=used, other=0)
        first, second = mixed_coefficients(weight, q_i, q_j, k_ij, gram is not None)
        s = tl.where(used, first * tl.load(self_similarity + a * self_stride) + second * s_j, 0)
        first, second = tl.where(used, first, 0), tl.where(used, second, 0)
        one = used.to(dtype)
        positive_weight, negative_weight = (one, tl.zeros_like(s)) if PAIRS == "anc-pos" else (weight, one - weight)
    return s, first, second, positive_weight, negative_weight


@triton.jit
def row_sums(
    similarity, positives, own, mask, rho, lam, gram, sqnorm, self_similarity, self_sqnorm, sums, rest, n,
    sqnorm_stride, self_stride, PAIRS: tl.constexpr, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr,
    ONE_LAMBDA: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """sums, rest [m, 2]."""
    a = tl.program_id(0).to(tl.int64)
    dtype: tl.constexpr = similarity.dtype.element_ty
    positive_rho = load_rho(rho, 0, EXPONENTIAL, dtype)
    negative_rho = load_rho(rho, 1, EXPONENTIAL, dtype)
    positive_shift, positive_total = empty_cells(COLUMNS, EXPONENTIAL, dtype)
    negative_shift, negative_total = empty_cells(COLUMNS, EXPONENTIAL, dtype)
    in_tile = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    for begin in range(0, n, ROWS * COLUMNS):
        s, _first, _second, positive, negative = terms_of_row(
            similarity, positives, own, mask, lam, gram, sqnorm, self_similarity, self_sqnorm, a, begin + in_tile,
            n, sqnorm_stride, self_stride, PAIRS, ONE_LAMBDA,
        )  # fmt: skip
        positive_shift, positive_total, negative_shift, negative_total = add_to_both_sides(
            positive_shift, positive_total, negative_shift, negative_total, s, positive, negative,
            positive_rho, negative_rho, EXPONENTIAL, MARGINS,
        )  # fmt: skip
    shift, total = fold_cells(positive_shift, positive_total, EXPONENTIAL)
    store_sum(sums, rest, a, shift, total, rho, 0, EXPONENTIAL)
    shift, total = fold_cells(negative_shift, negative_total, EXPONENTIAL)
    store_sum(sums, rest, a, shift, total, rho, 1, EXPONENTIAL)


@triton.jit
def row_gradients(
    sums, rest, grad_sums, similarity, positives, own, mask, rho, lam, gram, sqnorm, self_similarity, self_sqnorm,
    d_similarity, d_gram, d_sqnorm, d_self_similarity, d_self_sqnorm, n, sqnorm_stride, self_stride,
    PAIRS: tl.constexpr, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr, ONE_LAMBDA: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """Every gradient of an anchor; d_sqnorm [m, n] is what each anchor adds to that of sqnorm.

    d_similarity is added to with ADDS. d_self_similarity and d_self_sqnorm are None where the anchor's own numbers are
    on the diagonals of similarity and gram: their gradients are added to that element of d_similarity and d_gram.
    """
    a = tl.program_id(0).to(tl.int64)
    dtype: tl.constexpr = similarity.dtype.element_ty
    ON_DIAGONAL: tl.constexpr = PAIRS != "clean" and d_self_similarity is None
    positive_rho = load_rho(rho, 0, EXPONENTIAL, dtype)
    negative_rho = load_rho(rho, 1, EXPONENTIAL, dtype)
    positive_upstream = load_upstream(sums, rest, grad_sums, rho, a, 0, EXPONENTIAL)
    negative_upstream = load_upstream(sums, rest, grad_sums, rho, a, 1, EXPONENTIAL)
    in_tile = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    self_similarity_cells = tl.zeros((COLUMNS,), dtype)
    self_sqnorm_cells = tl.zeros((COLUMNS,), dtype)
    for begin in range(0, n, ROWS * COLUMNS):
        column = begin + in_tile
        s, first, second, positive, negative = terms_of_row(
            similarity, positives, own, mask, lam, gram, sqnorm, self_similarity, self_sqnorm, a, column, n,
            sqnorm_stride, self_stride, PAIRS, ONE_LAMBDA,
        )  # fmt: skip
        ds = slope(s, positive, positive, positive_rho, positive_upstream, EXPONENTIAL, MARGINS)
        ds += slope(s, positive, negative, negative_rho, negative_upstream, EXPONENTIAL, MARGINS)
        at = a * n + column
        inside = column < n
        of_similarity = ds * second
        if ADDS:
            of_similarity += tl.load(d_similarity + at, mask=inside, other=0)
        if PAIRS != "clean":
            self_similarity_cells += tl.sum(ds * first, 0)
        if gram is not None:
            moment = ds * s
            of_gram = -moment * first * second
            tl.store(d_sqnorm + at, -0.5 * moment * second * second, mask=inside)
            self_sqnorm_cells -= tl.sum(0.5 * moment * first * first, 0)
        if ON_DIAGONAL:  # the element on the diagonal is stored once all that is added to it is known
            is_own = column == a
            inside = inside & ~is_own
            self_similarity_cells += tl.sum(tl.where(is_own, of_similarity, 0), 0)
            if gram is not None:
                self_sqnorm_cells += tl.sum(tl.where(is_own, of_gram, 0), 0)
        tl.store(d_similarity + at, of_similarity, mask=inside)
        if gram is not None:
            tl.store(d_gram + at, of_gram, mask=inside)
    if PAIRS != "clean":
        target = d_similarity + a * n if ON_DIAGONAL else d_self_similarity
        tl.store(target + a, tl.sum(self_similarity_cells, 0))
    if gram is not None:
        target = d_gram + a * n if ON_DIAGONAL else d_self_sqnorm
        tl.store(target + a, tl.sum(self_sqnorm_cells, 0))
