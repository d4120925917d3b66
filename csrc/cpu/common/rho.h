// The families of rho (Table 1) on the CPU, and what a family must provide. A third one is
//   1. a Side in loops/rho.h: its constants, and similarity_gradient(side, weight, s), the derivative of a term, which
//      the loops of backward are made of;
//   2. a sums_of(row, side, sums, scratch) in loops/rho_loops.h: the loop of forward, which is not the same for all, as
//      exponentials need the largest exponent first;
//   3. a line in RowKernels and in its table in loops/rows.cpp, so that the loops exist for every instruction set;
//   4. a struct here that meets RhoFamily, and a case in with_family(), for which Rho (pair_sums.h) must name the
//      family.
// The drivers of pair_sums and anchor_sums are templates over the family and do not change.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <limits>
#include <vector>

#include "cpu/loops/rows.h"
#include "math.h"
#include "pair_sums.h"

namespace metrix::cpu {

template <class Family>
concept RhoFamily = requires(const RhoSide& rho, const PartialSum<typename Family::Number>& total,
                             typename Family::Number number, const typename Family::Number* rest) {
  // The constants of one side, in the type of the kernels: the loops take them as they are.
  typename Family::Side;
  // The loops of the instruction set: an indirect call per row, none per term.
  { Family::kernels() } -> std::same_as<const RhoKernels<typename Family::Number, typename Family::Side>&>;
  // The partial sum of no term: where an anchor's sums start.
  { Family::nothing() } -> std::same_as<PartialSum<typename Family::Number>>;
  // The constants that the terms of forward need.
  { Family::forward(rho) } -> std::same_as<typename Family::Side>;
  // Those of backward, from what forward wrote (sum, and *rest or null) and d(loss)/d(sum): they differ by anchor.
  { Family::backward(rho, number, rest, number) } -> std::same_as<typename Family::Side>;
  // The sum that the op returns, from all terms, and what stands beside it: see PairSumsOutput.
  { Family::result(rho, total) } -> std::same_as<std::array<typename Family::Number, 2>>;
};

// rho(s) = e^(scale s + shift). The sums are logarithms; e^shift is one factor for all terms, so that the loops go
// without it.
template <class T>
struct ExponentialRho {
  using Number = T;
  using Side = ExponentialSide<T>;

  static const RhoKernels<T, Side>& kernels() { return row_kernels<T>().exponential; }
  static PartialSum<T> nothing() { return {-std::numeric_limits<T>::infinity(), T(0)}; }
  static Side forward(const RhoSide& rho) { return {T(rho.scale * kLog2E), T(rho.margin_range), T(0), T(0)}; }

  static Side backward(const RhoSide& rho, T sum, const T* rest, T grad_sum) {
    const T scale = T(rho.scale * kLog2E), range = T(rho.margin_range);
    // The logarithm of an empty sum has no gradient, whatever comes from above.
    if (sum == -std::numeric_limits<T>::infinity()) return {scale, range, T(1e30), T(0)};
    // Then the sum is off by its own rounding, beside which that of log_sum needs no care.
    if (rest == nullptr) return {scale, range, T((double(sum) - rho.shift) * kLog2E), T(grad_sum * rho.scale)};
    const double log_sum = (double(sum) + double(*rest) - rho.shift) * kLog2E;
    // What T cannot hold of the logarithm is one factor for the whole sum.
    const double lost = std::exp2(double(T(log_sum)) - log_sum);
    return {scale, range, T(log_sum), T(grad_sum * rho.scale * lost)};
  }

  // log2 of a sum that is 0 is minus infinity: the empty set.
  static std::array<T, 2> result(const RhoSide& rho, const PartialSum<T>& total) {
    const double log_sum = (std::log2(double(total.sum)) + double(total.shift)) * kLn2 + rho.shift;
    return {T(log_sum), std::isfinite(log_sum) ? T(log_sum - double(T(log_sum))) : T(0)};
  }
};

// rho(s) = max(scale s + shift, floor).
template <class T>
struct LinearRho {
  using Number = T;
  using Side = LinearSide<T>;

  static const RhoKernels<T, Side>& kernels() { return row_kernels<T>().linear; }
  static PartialSum<T> nothing() { return {T(0), T(0)}; }
  static Side forward(const RhoSide& rho) { return backward(rho, T(0), nullptr, T(0)); }

  static Side backward(const RhoSide& rho, T sum, const T*, T grad_sum) {
    // Of a sum that is not finite the gradient is NaN.
    return {T(rho.scale), T(rho.margin_range), T(rho.shift), T(rho.floor), grad_sum + T(0) * sum};
  }

  static std::array<T, 2> result(const RhoSide&, const PartialSum<T>& total) { return {total.sum, total.shift}; }
};

static_assert(RhoFamily<ExponentialRho<float>> && RhoFamily<LinearRho<float>>);

// body.operator()<Family>() for the family of a rho.
template <class T, class Body>
void with_family(const Rho& rho, const Body& body) {
  if (rho.exponential)
    body.template operator()<ExponentialRho<T>>();
  else
    body.template operator()<LinearRho<T>>();
}

// Numbers by anchor and side lie as [m, 2].
inline const RhoSide& side_of(const Rho& rho, int64_t k) { return k % 2 == 0 ? rho.positive : rho.negative; }

// Forward: the two sums of each anchor while its terms come in.
template <class Family>
class AnchorSums {
 public:
  using T = typename Family::Number;

  AnchorSums(const Rho& rho, int64_t anchors)
      : rho_(rho),
        sides_{Family::forward(rho.positive), Family::forward(rho.negative)},
        sums_(2 * anchors, Family::nothing()) {}

  // terms: scratch of the size of the row.
  void add(Sides sides, const Row<T>& row, int64_t anchor, T* terms) {
    kernels_.sums(sides, row, sides_, sums_.data() + 2 * anchor, terms);
  }

  // A term of the anchor is not finite.
  void poison(int64_t anchor) {
    sums_[2 * anchor] = sums_[2 * anchor + 1] = {T(0), std::numeric_limits<T>::quiet_NaN()};
  }

  void write(T* sums, T* rest) const {
    for (int64_t k = 0; k < int64_t(sums_.size()); ++k) {
      const std::array<T, 2> result = Family::result(side_of(rho_, k), sums_[k]);
      sums[k] = result[0];
      rest[k] = result[1];
    }
  }

 private:
  const Rho& rho_;
  const typename Family::Side sides_[2];
  std::vector<PartialSum<T>> sums_;  // [m, 2]
  const RhoKernels<T, typename Family::Side>& kernels_ = Family::kernels();
};

// Backward: d(loss)/ds of the terms of each anchor.
template <class Family>
class AnchorGradients {
 public:
  using T = typename Family::Number;

  // rest may be null: where sums are only known as they were rounded.
  AnchorGradients(const Rho& rho, int64_t anchors, const T* sums, const T* rest, const T* grad_sums) {
    sides_.reserve(2 * anchors);
    for (int64_t k = 0; k < 2 * anchors; ++k)
      sides_.push_back(Family::backward(side_of(rho, k), sums[k], rest == nullptr ? nullptr : rest + k, grad_sums[k]));
  }

  // Returns d/d s(a, i).
  T add(Sides sides, const Row<T>& row, int64_t anchor, const RowGradient<T>& into) const {
    return kernels_.gradient(sides, row, sides_.data() + 2 * anchor, into);
  }

  // Of one term with label y.
  T of_term(int64_t anchor, int side, T y, T s) const {
    const typename Family::Side& of_anchor = sides_[2 * anchor + side];
    return similarity_gradient(of_anchor, side == 0 ? y : T(1) - y, less_margin(s, of_anchor.margin_range, y));
  }

 private:
  std::vector<typename Family::Side> sides_;  // [m, 2]
  const RhoKernels<T, typename Family::Side>& kernels_ = Family::kernels();
};

}  // namespace metrix::cpu
