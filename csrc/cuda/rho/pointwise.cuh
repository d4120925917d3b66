// A template for families of rho whose terms are added up as they are: sum = sum_k w_k rho(s_k). A Formula fills it in
// with rho and its derivative (linear.cuh has one). To add such a family:
//   1. a file beside this with its Formula and `using Name = Pointwise<NameFormula>;`
//   2. in families.cuh its header, a static_assert, and a case in both functions; Rho::exponential in csrc/pair_sums.h,
//      by which they choose, becomes an enum of the families
// If it needs numbers besides scale, shift and floor, they go into RhoSide and, in the kernels' type, DeviceRho.
#pragma once

#include "rho.cuh"

namespace metrix::cuda {

template <class Formula, class T>
concept RhoFormula = requires(const DeviceRho<T>& rho, int side, T s, T weight) {
  { Formula::value(rho, side, s, weight) } -> std::same_as<T>;       // rho_side(s)
  { Formula::derivative(rho, side, s, weight) } -> std::same_as<T>;  // d rho_side / d s
};

template <class Formula, class T, int anchors, Sides sides>
  requires RhoFormula<Formula, T>
class PointwiseSum {
 public:
  static constexpr int kAnchors = anchors;
  static constexpr Sides kSides = sides;
  // 65,536 registers / (4 * 128 threads) = 128 for a thread. Sums and counts of 8 anchors on 2 sides are 32; with the
  // linear formula the whole kernel takes 110. 5 blocks would leave it 96.
  static constexpr int kBlocksPerMultiprocessor = 4;
  static constexpr bool kCountsTerms = true;

  __device__ __forceinline__ PointwiseSum() {
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) count_[side][a] = sum_[side][a] = T(0);
    }
  }

  template <bool kSkips>
  __device__ __forceinline__ void add(const DeviceRho<T>& rho, const T (&s)[kAnchors], const T (&weight)[2],
                                      unsigned skip) {
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      if (!takes(sides, side)) continue;
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) {
        if (kSkips && (skip >> a & 1)) continue;
        const PartialSum<T> term = of_term(rho, side, s[a], weight[side]);
        sum_[side][a] += term.sum;
        count_[side][a] += term.shift;
      }
    }
  }

  __device__ __forceinline__ PartialSum<T> over_warp(int side, int a) const {
    return {warp_sum(count_[side][a]), warp_sum(sum_[side][a])};
  }

  __device__ __forceinline__ PartialSum<T> partial(int side, int a) const { return {count_[side][a], sum_[side][a]}; }

  __device__ __forceinline__ static PartialSum<T> of_term(const DeviceRho<T>& rho, int side, T s, T weight) {
    const T term = weight * Formula::value(rho, side, s, weight);
    return {term != T(0) ? T(1) : T(0), term};
  }

  __device__ static PartialSum<T> empty() { return {T(0), T(0)}; }

  __device__ static PartialSum<T> merge(const PartialSum<T>& x, const PartialSum<T>& y) {
    return {x.shift + y.shift, x.sum + y.sum};
  }

  __device__ static void write(const PartialSum<T>& partial, const RhoSide&, T& sum, T& rest) {
    sum = partial.sum;
    rest = partial.shift;
  }

 private:
  T count_[2][kAnchors], sum_[2][kAnchors];
};

template <class Formula, class T, Sides sides>
  requires RhoFormula<Formula, T>
class PointwiseGradient {
 public:
  static constexpr Sides kSides = sides;

  __device__ static AnchorFactors<T> of_anchor(const Rho&, const PairSumsGradient<T>& gradient, int64_t anchor) {
    const T *grad = gradient.grad_sums + 2 * anchor, *sum = gradient.sums + 2 * anchor;
    // Of a sum that is not finite the gradient is NaN.
    return {{T(0), T(0)}, {grad[0] + T(0) * sum[0], grad[1] + T(0) * sum[1]}};
  }

  __device__ __forceinline__ static bool is_safe(const T (&)[2]) { return true; }

  template <bool kClamps, int place>
  __device__ __forceinline__ static T of_term(const DeviceRho<T>& rho, T s, const T (&weight)[2],
                                              const AnchorFactors<T>& anchor) {
    T ds = T(0);
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side)
      if (takes(sides, side))
        ds += anchor.factor[side] * (weight[side] * Formula::derivative(rho, side, s, weight[side]));
    return ds;
  }
};

template <class Formula>
struct Pointwise {
  template <class T, int kAnchors, Sides sides>
  using Sum = PointwiseSum<Formula, T, kAnchors, sides>;
  template <class T, Sides sides>
  using Gradient = PointwiseGradient<Formula, T, sides>;
};

}  // namespace metrix::cuda
