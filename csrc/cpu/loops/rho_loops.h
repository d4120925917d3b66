// The loops of the families of rho over a row of terms, forward and backward. Included by rows.cpp alone. A family is
// one sums_of() for its Side; the gradients follow from similarity_gradient() of rho.h.
#pragma once

#include "rows.h"
#include "simd.h"

namespace metrix::cpu {
namespace {

template <class T>
constexpr T kInfinity = T(__builtin_inf());

// What rho of a side is of, for the terms from j on of similarities s.
template <bool Margins, class T, class Side>
METRIX_FN Vector<T> argument_of(const Row<T>& row, const Side& side, Vector<T> s, int64_t j) {
  if constexpr (Margins) return less_margin(s, side.margin_range, load(row.positive_weight + j));
  return s;
}

template <bool Mixed, class T>
METRIX_FN Vector<T> similarity_of(const Row<T>& row, int64_t j) {
  const Vector<T> s_j = load(row.similarity + j);
  if constexpr (Mixed) return mixed_similarity(load(row.first + j), load(row.second + j), row.similarity_i, s_j);
  return s_j;
}

template <class T>
METRIX_FN void add_scaled(PartialSum<T>& to, T shift, T sum) {
  if (shift > to.shift) {
    to.sum = to.sum * exp2(to.shift - shift) + sum;
    to.shift = shift;
  } else {
    to.sum += sum * exp2(shift - to.shift);
  }
}

// Two passes: the largest exponent among the terms whose weight is not 0, then the sums relative to it. Their
// difference is taken between similarities, before scale blows rounding up.
template <Sides sides, bool Mixed, bool Margins, class T>
void sums_of(const Row<T>& row, const ExponentialSide<T> side[2], PartialSum<T> sums[2], T* scratch) {
  const T positive_scale = side[0].scale, negative_scale = side[1].scale;
  const Vector<T> nothing = Vector<T>{} - kInfinity<T>;
  Vector<T> positive_top = nothing, negative_top = nothing;
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = argument_of<Margins>(row, side[0], similarity_of<Mixed>(row, j), j);
    store(scratch + j, s);
    if constexpr (takes(sides, 0)) {
      const Vector<T> t = select(load(row.positive_weight + j) > T(0), positive_scale * s, nothing);
      positive_top = select(t > positive_top, t, positive_top);
    }
    if constexpr (takes(sides, 1)) {
      const Vector<T> t = select(load(row.negative_weight + j) > T(0), negative_scale * s, nothing);
      negative_top = select(t > negative_top, t, negative_top);
    }
  }
  const T positive_shift = largest<T>(positive_top), negative_shift = largest<T>(negative_top);
  // Without a weight above 0 the terms vanish; skipping them keeps infinity out of the differences.
  const bool has_positive = positive_shift != -kInfinity<T>, has_negative = negative_shift != -kInfinity<T>;
  if (!has_positive && !has_negative) return;
  Vector<T> positive_sum{}, negative_sum{};
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = load(scratch + j);
    if constexpr (takes(sides, 0))
      positive_sum += load(row.positive_weight + j) * exp2(positive_scale * s - positive_shift);
    if constexpr (takes(sides, 1))
      negative_sum += load(row.negative_weight + j) * exp2(negative_scale * s - negative_shift);
  }
  if (takes(sides, 0) && has_positive) add_scaled(sums[0], positive_shift, sum<T>(positive_sum));
  if (takes(sides, 1) && has_negative) add_scaled(sums[1], negative_shift, sum<T>(negative_sum));
}

template <Sides sides, bool Mixed, bool Margins, class T>
void sums_of(const Row<T>& row, const LinearSide<T> side[2], PartialSum<T> sums[2], T*) {
  Vector<T> total[2] = {}, count[2] = {};
  const T* const weights[2] = {row.positive_weight, row.negative_weight};
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = similarity_of<Mixed>(row, j);
    for (int k = takes(sides, 0) ? 0 : 1; k < (takes(sides, 1) ? 2 : 1); ++k) {
      const Vector<T> t = argument_of<Margins>(row, side[k], s, j);
      const Vector<T> term = load(weights[k] + j) * linear_rho(t, side[k].scale, side[k].shift, side[k].floor);
      total[k] += term;
      count[k] += select(term != T(0), Vector<T>{} + T(1), Vector<T>{});
    }
  }
  for (int k = takes(sides, 0) ? 0 : 1; k < (takes(sides, 1) ? 2 : 1); ++k)
    sums[k] = {sums[k].shift + sum<T>(count[k]), sums[k].sum + sum<T>(total[k])};
}

// Adds the gradients of a row to those of s(a, j) and to the moments.
template <Sides sides, bool Mixed, bool Margins, class T, class Side>
T gradient_of(const Row<T>& row, const Side side[2], const RowGradient<T>& into) {
  const Side positive = side[0], negative = side[1];
  Vector<T> similarity_i{};
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = similarity_of<Mixed>(row, j);
    Vector<T> ds{};
    if constexpr (takes(sides, 0)) {
      const Vector<T> t = argument_of<Margins>(row, positive, s, j);
      ds += similarity_gradient(positive, load(row.positive_weight + j), t);
    }
    if constexpr (takes(sides, 1)) {
      const Vector<T> t = argument_of<Margins>(row, negative, s, j);
      ds += similarity_gradient(negative, load(row.negative_weight + j), t);
    }
    if constexpr (Mixed) {
      similarity_i += ds * load(row.first + j);
      store(into.similarity + j, load(into.similarity + j) + ds * load(row.second + j));
      store(into.moment + j, load(into.moment + j) + ds * s);
    } else {
      store(into.similarity + j, load(into.similarity + j) + ds);
    }
  }
  return sum<T>(similarity_i);
}

// Calls function.operator()<sides, Mixed>() for the run-time values.
template <class Function>
auto with_sides(Sides sides, bool mixed, const Function& function) {
  switch (sides) {
    case Sides::kPositive:
      return mixed ? function.template operator()<Sides::kPositive, true>()
                   : function.template operator()<Sides::kPositive, false>();
    case Sides::kNegative:
      return mixed ? function.template operator()<Sides::kNegative, true>()
                   : function.template operator()<Sides::kNegative, false>();
    default:
      return function.template operator()<Sides::kBoth, true>();
  }
}

// Calls function.operator()<sides, Mixed, Margins>() for a row of terms.
template <class T, class Side, class Function>
auto specialise(Sides sides, const Row<T>& row, const Side side[2], const Function& function) {
  const bool margins = side[0].margin_range != T(0) || side[1].margin_range != T(0);
  return with_sides(sides, row.first != nullptr, [&]<Sides S, bool Mixed>() {
    return margins ? function.template operator()<S, Mixed, true>() : function.template operator()<S, Mixed, false>();
  });
}

template <class T, class Side>
void sums(Sides sides, const Row<T>& row, const Side side[2], PartialSum<T> sums[2], T* scratch) {
  specialise(sides, row, side,
             [&]<Sides S, bool Mixed, bool Margins>() { sums_of<S, Mixed, Margins>(row, side, sums, scratch); });
}

template <class T, class Side>
T gradient(Sides sides, const Row<T>& row, const Side side[2], const RowGradient<T>& into) {
  return specialise(sides, row, side, [&]<Sides S, bool Mixed, bool Margins>() {
    return gradient_of<S, Mixed, Margins>(row, side, into);
  });
}

}  // namespace
}  // namespace metrix::cpu
