"""pair_sums where an anchor has a term per pair of examples: pos-neg, pos-pos and neg-neg.

A tile is firsts i x seconds j. The sums and the gradients of the similarities take a program per anchor and
slice of its tiles; the gradients of the norms, which anchors share, one per tile, which walks the anchors.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .formulas import (
    add_terms,
    empty_cells,
    fold_cells,
    is_member,
    load_lambda,
    load_rho,
    load_upstream,
    mixed_coefficients,
    slope_of_tile,
    span,
    store_sum,
    weights_of_tile,
)

# A row length known to be a multiple of 16 would make Triton load four columns a thread and spread the rows of a tile
# over warps, and every sum over rows would then go through shared memory.
SIZES = ["m", "n", "first_row", "row_count", "slices", "sqnorm_stride"]


@triton.jit
def coefficients_of_tile(
    lam, gram, sqnorm, i, j, is_first, is_second, n, first_row, sqnorm_stride, PAIRS: tl.constexpr,
    ONE_LAMBDA: tl.constexpr,
):  # fmt: skip
    """Which pairs of a tile exist, lambda and the coefficients of their mixes; lam and gram begin at first_row."""
    used = is_first & is_second
    if PAIRS != "pos-neg":
        used = used & (i < j)
    at = (i - first_row).to(tl.int64) * n + j
    weight = load_lambda(lam, at, used, ONE_LAMBDA)
    q_i, q_j, k_ij = weight, weight, weight
    if gram is not None:
        q_i = tl.load(sqnorm + i * sqnorm_stride, mask=is_first, other=0)
        q_j = tl.load(sqnorm + j * sqnorm_stride, mask=is_second, other=0)
        k_ij = tl.load(gram + at, mask=used, other=0)
    first, second = mixed_coefficients(weight, q_i, q_j, k_ij, gram is not None)
    return used, weight, first, second


@triton.jit(do_not_specialize=SIZES)
def product_cells(
    similarity, positives, own, mask, rho, lam, gram, sqnorm, cells, n, first_row, sqnorm_stride, slices,
    PAIRS: tl.constexpr, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr, ONE_LAMBDA: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """cells [m, 2, slices, 2]: shift and total of each side over the tiles of a slice of the seconds."""
    a, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dtype: tl.constexpr = similarity.dtype.element_ty
    positive_rho = load_rho(rho, 0, EXPONENTIAL, dtype)
    negative_rho = load_rho(rho, 1, EXPONENTIAL, dtype)
    positive_shift, positive_total = empty_cells(COLUMNS, EXPONENTIAL, dtype)
    negative_shift, negative_total = empty_cells(COLUMNS, EXPONENTIAL, dtype)
    first_begin, first_end = span(positives, mask, a, n, PAIRS != "neg-neg")
    second_begin, second_end = span(positives, mask, a, n, PAIRS == "pos-pos")
    for j_begin in range(second_begin + part * COLUMNS, second_end, slices * COLUMNS):
        j = j_begin + tl.arange(0, COLUMNS)[None, :]
        is_second = is_member(positives, own, mask, a, j, j < second_end, n, PAIRS == "pos-pos")
        s_j = tl.load(similarity + a * n + j, mask=is_second, other=0)
        for i_begin in range(first_begin, first_end, ROWS):
            i = i_begin + tl.arange(0, ROWS)[:, None]
            is_first = is_member(positives, own, mask, a, i, i < first_end, n, PAIRS != "neg-neg")
            s_i = tl.load(similarity + a * n + i, mask=is_first, other=0)
            used, weight, first, second = coefficients_of_tile(
                lam, gram, sqnorm, i, j, is_first, is_second, n, first_row, sqnorm_stride, PAIRS, ONE_LAMBDA
            )
            s = tl.where(used, first * s_i + second * s_j, 0)
            positive, negative = weights_of_tile(used, weight, PAIRS)
            # 0 for finite similarities, NaN otherwise: minus infinity would vanish in an exponential.
            poison = tl.sum(s * 0.0, 0)
            if PAIRS != "neg-neg":
                positive_shift, positive_total = add_terms(
                    positive_shift, positive_total, s, weight, positive, positive_rho, EXPONENTIAL, MARGINS
                )
            if PAIRS != "pos-pos":
                negative_shift, negative_total = add_terms(
                    negative_shift, negative_total, s, weight, negative, negative_rho, EXPONENTIAL, MARGINS
                )
            positive_total += poison
            negative_total += poison
    shift, total = fold_cells(positive_shift, positive_total, EXPONENTIAL)
    cell = cells + (a * 2 * slices + part) * 2
    tl.store(cell, shift)
    tl.store(cell + 1, total)
    shift, total = fold_cells(negative_shift, negative_total, EXPONENTIAL)
    cell += 2 * slices
    tl.store(cell, shift)
    tl.store(cell + 1, total)


@triton.jit(do_not_specialize=SIZES)
def merge_cells(cells, rho, sums, rest, slices, EXPONENTIAL: tl.constexpr, SLICES: tl.constexpr):
    """sums, rest [m, 2] from the cells of all slices; at most SLICES of them."""
    a = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, SLICES)
    for SIDE in tl.static_range(2):
        cell = cells + ((a * 2 + SIDE) * slices + part) * 2
        shift = tl.load(cell, mask=part < slices, other=float("-inf") if EXPONENTIAL else 0)
        total = tl.load(cell + 1, mask=part < slices, other=0)
        shift, total = fold_cells(shift, total, EXPONENTIAL)
        store_sum(sums, rest, a, shift, total, rho, SIDE, EXPONENTIAL)


@triton.jit(do_not_specialize=SIZES)
def product_similarity_gradient(
    sums, rest, grad_sums, similarity, positives, own, mask, rho, lam, gram, sqnorm, d_similarity, n, first_row,
    sqnorm_stride, slices, OF_FIRST: tl.constexpr, PAIRS: tl.constexpr, EXPONENTIAL: tl.constexpr,
    MARGINS: tl.constexpr, ONE_LAMBDA: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds to d_similarity [m, n] what an anchor's examples get as firsts, or as seconds, of its pairs."""
    a, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dtype: tl.constexpr = similarity.dtype.element_ty
    positive_rho = load_rho(rho, 0, EXPONENTIAL, dtype)
    negative_rho = load_rho(rho, 1, EXPONENTIAL, dtype)
    positive_upstream = load_upstream(sums, rest, grad_sums, rho, a, 0, EXPONENTIAL)
    negative_upstream = load_upstream(sums, rest, grad_sums, rho, a, 1, EXPONENTIAL)
    first_begin, first_end = span(positives, mask, a, n, PAIRS != "neg-neg")
    second_begin, second_end = span(positives, mask, a, n, PAIRS == "pos-pos")
    # Outside what gets a gradient, of which each program has its share; inside all that it is paired with.
    OUTER: tl.constexpr = ROWS if OF_FIRST else COLUMNS
    INNER: tl.constexpr = COLUMNS if OF_FIRST else ROWS
    outer_begin, outer_end = (first_begin, first_end) if OF_FIRST else (second_begin, second_end)
    inner_begin, inner_end = (second_begin, second_end) if OF_FIRST else (first_begin, first_end)
    for outer in range(outer_begin + part * OUTER, outer_end, slices * OUTER):
        gradient = tl.zeros((ROWS, COLUMNS), dtype)
        for inner in range(inner_begin, inner_end, INNER):
            i = (outer if OF_FIRST else inner) + tl.arange(0, ROWS)[:, None]
            j = (inner if OF_FIRST else outer) + tl.arange(0, COLUMNS)[None, :]
            is_first = is_member(positives, own, mask, a, i, i < first_end, n, PAIRS != "neg-neg")
            is_second = is_member(positives, own, mask, a, j, j < second_end, n, PAIRS == "pos-pos")
            s_i = tl.load(similarity + a * n + i, mask=is_first, other=0)
            s_j = tl.load(similarity + a * n + j, mask=is_second, other=0)
            used, weight, first, second = coefficients_of_tile(
                lam, gram, sqnorm, i, j, is_first, is_second, n, first_row, sqnorm_stride, PAIRS, ONE_LAMBDA
            )
            s = tl.where(used, first * s_i + second * s_j, 0)
            ds = slope_of_tile(
                s,
                used,
                weight,
                positive_rho,
                negative_rho,
                positive_upstream,
                negative_upstream,
                PAIRS,
                EXPONENTIAL,
                MARGINS,
            )
            gradient += tl.where(used, ds * (first if OF_FIRST else second), 0)
        column = outer + tl.arange(0, OUTER)
        inside = column < outer_end
        target = d_similarity + a * n + column
        added = tl.sum(gradient, 1 if OF_FIRST else 0)
        tl.store(target, tl.load(target, mask=inside, other=0) + added, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def product_norm_gradient(
    sums, rest, grad_sums, similarity, positives, own, mask, rho, lam, gram, sqnorm,
    d_gram, first_parts, second_parts, m, n, first_row, row_count, sqnorm_stride,
    PAIRS: tl.constexpr, EXPONENTIAL: tl.constexpr, MARGINS: tl.constexpr, ONE_LAMBDA: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ANCHORS: tl.constexpr,
):  # fmt: skip
    """d_gram [row_count, n], and what each tile adds to d_sqnorm: of firsts [column tiles, row_count], of seconds
    [row tiles, n]."""
    row_tile, column_tile = tl.program_id(0), tl.program_id(1)
    dtype: tl.constexpr = similarity.dtype.element_ty
    positive_rho = load_rho(rho, 0, EXPONENTIAL, dtype)
    negative_rho = load_rho(rho, 1, EXPONENTIAL, dtype)
    rows_end = first_row + row_count
    rows = first_row + row_tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = column_tile.to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    i, j = rows[:, None], columns[None, :]
    _, weight, first, second = coefficients_of_tile(
        lam, gram, sqnorm, i, j, i < rows_end, j < n, n, first_row, sqnorm_stride, PAIRS, ONE_LAMBDA
    )
    moment = tl.zeros((ROWS, COLUMNS), dtype)
    # Few anchors have these firsts. A block of them is asked at once, and only if one does, each of the block.
    for block in range(0, m, ANCHORS):
        # Past the last one the last is asked again.
        anchors = tl.minimum(block + tl.arange(0, ANCHORS)[:, None], m - 1).to(tl.int64)
        asked = is_member(positives, own, mask, anchors, rows[None, :], rows[None, :] < rows_end, n, PAIRS != "neg-neg")
        if tl.max(tl.max(asked.to(tl.int32), 1), 0) > 0:
            for anchor in range(block, min(block + ANCHORS, m)):
                a = tl.zeros((), tl.int64) + anchor  # the interpreter counts in Python
                is_first = is_member(positives, own, mask, a, i, i < rows_end, n, PAIRS != "neg-neg")
                if tl.max(tl.max(is_first.to(tl.int32), 1), 0) > 0:
                    is_second = is_member(positives, own, mask, a, j, j < n, n, PAIRS == "pos-pos")
                    used = is_first & is_second
                    if PAIRS != "pos-neg":
                        used = used & (i < j)
                    s_i = tl.load(similarity + a * n + i, mask=is_first, other=0)
                    s_j = tl.load(similarity + a * n + j, mask=is_second, other=0)
                    s = tl.where(used, first * s_i + second * s_j, 0)
                    positive_upstream = load_upstream(sums, rest, grad_sums, rho, a, 0, EXPONENTIAL)
                    negative_upstream = load_upstream(sums, rest, grad_sums, rho, a, 1, EXPONENTIAL)
                    ds = slope_of_tile(
                        s, used, tl.where(used, weight, 0), positive_rho, negative_rho, positive_upstream,
                        negative_upstream, PAIRS, EXPONENTIAL, MARGINS,
                    )  # fmt: skip
                    moment += ds * s
    # Pairs that nobody uses have the moment 0, and their norm may be anything.
    first, second = tl.where(moment != 0, first, 0), tl.where(moment != 0, second, 0)
    tl.store(d_gram + (i - first_row) * n + j, -moment * first * second, mask=(i < rows_end) & (j < n))
    of_firsts = -0.5 * tl.sum(moment * first * first, 1)
    of_seconds = -0.5 * tl.sum(moment * second * second, 0)
    own_part = first_parts + column_tile.to(tl.int64) * row_count
    tl.store(own_part + rows - first_row, of_firsts, mask=rows < rows_end)
    tl.store(second_parts + row_tile.to(tl.int64) * n + columns, of_seconds, mask=columns < n)
