// rho of Table 1 as the loops take it: the constants of one side of a family, the derivative of a term, and the
// partial sum that terms go to. What a family is made of, and where, stands in cpu/common/rho.h.
#pragma once

#include <cstdint>

#include "math.h"

namespace metrix::cpu {

// Which of the two sums the terms go to: label 1, label 0, or a label in between.
enum class Sides { kPositive, kNegative, kBoth };

// side 0 is the positive one.
METRIX_FN constexpr bool takes(Sides sides, int side) {
  return sides == Sides::kBoth || (side == 0) == (sides == Sides::kPositive);
}

// A partial sum. Exponential: that of a streaming logsumexp, sum * 2^shift (nothing is 0 * 2^-inf). Linear: sum, and
// in shift the number of terms that are not 0.
template <class T>
struct PartialSum {
  T shift, sum;
};

// The terms are weight * 2^(scale s), scale being in base 2. Backward: d(loss)/ds is factor * weight *
// 2^(scale s - log_sum) with factor = d(loss)/d(log sum) * d(log term)/ds. In place of s stands less_margin() of it.
template <class T>
struct ExponentialSide {
  T scale, margin_range, log_sum, factor;
};

// The terms are weight * max(scale s + shift, floor). Backward: factor = d(loss)/d(sum).
template <class T>
struct LinearSide {
  T scale, margin_range, shift, floor, factor;
};

// d(loss)/ds of terms: Number is T, or a vector of them.
template <class Number, class T>
METRIX_FN Number similarity_gradient(const ExponentialSide<T>& side, Number weight, Number s) {
  return side.factor * (weight * exp2(side.scale * s - side.log_sum));
}

template <class Number, class T>
METRIX_FN Number similarity_gradient(const LinearSide<T>& side, Number weight, Number s) {
  return side.factor * (weight * linear_rho_slope(s, side.scale, side.shift, side.floor));
}

}  // namespace metrix::cpu
