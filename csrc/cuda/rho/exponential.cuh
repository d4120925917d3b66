// The exponential family: rho(s) = e^(scale s + shift), and the result is the logarithm of the sum,
//   L = log sum_k w_k e^(scale s_k + shift),   d L / d s_k = scale w_k e^(scale s_k + shift - L).
// Forward is a streaming logsumexp in base 2: sum * 2^shift with a shift that follows the largest exponent.
#pragma once

#include <utility>

#include "cuda/common/exp2.cuh"
#include "rho.cuh"

namespace metrix::cuda {

// Sums of sum * 2^shift. The shift need not be the largest exponent, only close enough for the range of a float: it
// moves when a term exceeds it by 2^kHeadroom, so that the usual term costs a comparison and no rescaling.
template <class T, int anchors, Sides sides>
class ExponentialSum {
 public:
  static constexpr int kAnchors = anchors;
  static constexpr Sides kSides = sides;
  // 65,536 registers / (5 * 128 threads) = 102 for a thread. Sums and shifts of 8 anchors on 2 sides are 32, their
  // similarities and exponents 24; the whole kernel takes 90. 6 blocks would leave it 80.
  static constexpr int kBlocksPerMultiprocessor = 5;
  static constexpr bool kCountsTerms = false;

  __device__ __forceinline__ ExponentialSum() {
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) {
        minus_shift_[side][a] = kInfinity<T>;
        sum_[side][a] = T(0);
      }
    }
  }

  template <bool kSkips>
  __device__ __forceinline__ void add(const DeviceRho<T>& rho, const T (&s)[kAnchors], const T (&weight)[2],
                                      unsigned skip) {
    T exponent[2][kAnchors];  // above the shift
    bool is_high = false;
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      if (!takes(sides, side)) continue;
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) {
        exponent[side][a] = fused(rho.exponent[side], s[a], minus_shift_[side][a]);
        if (kSkips && (skip >> a & 1)) exponent[side][a] = -kInfinity<T>;
        is_high |= exponent[side][a] > T(kHeadroom);
      }
    }
    if (is_high) {
      METRIX_UNROLL
      for (int side = 0; side < 2; ++side) {
        if (!takes(sides, side)) continue;
        METRIX_UNROLL
        for (int a = 0; a < kAnchors; ++a)
          raise(rho.exponent[side], s[a], weight[side] > T(0), minus_shift_[side][a], sum_[side][a], exponent[side][a]);
      }
    }
    accumulate(exponent, weight, std::make_integer_sequence<int, kAnchors>{});
  }

  __device__ __forceinline__ PartialSum<T> over_warp(int side, int a) const {
    const T shift = -minus_shift_[side][a], top = warp_max(shift);
    const T share = shift == top ? sum_[side][a] : sum_[side][a] * rescaling_exp2(shift - top);
    return {top, warp_sum(share)};
  }

  // That of this thread alone.
  __device__ __forceinline__ PartialSum<T> partial(int side, int a) const {
    return {-minus_shift_[side][a], sum_[side][a]};
  }

  __device__ __forceinline__ static PartialSum<T> of_term(const DeviceRho<T>& rho, int side, T s, T weight) {
    return {rho.exponent[side] * s, weight};
  }

  __device__ static PartialSum<T> empty() { return {-kInfinity<T>, T(0)}; }

  __device__ static PartialSum<T> merge(const PartialSum<T>& x, const PartialSum<T>& y) {
    // The sum of no terms is 0; one of terms that are all NaN has this shift, too.
    if (y.shift == -kInfinity<T>) return {x.shift, x.sum + y.sum};
    if (x.shift == -kInfinity<T>) return {y.shift, x.sum + y.sum};
    const T top = x.shift > y.shift ? x.shift : y.shift;
    return {top, x.sum * rescaling_exp2(x.shift - top) + y.sum * rescaling_exp2(y.shift - top)};
  }

  // The logarithm of a sum that is 0 is minus infinity: the empty set.
  __device__ static void write(const PartialSum<T>& partial, const RhoSide& rho, T& sum, T& rest) {
    const double log_sum = (::log2(double(partial.sum)) + double(partial.shift)) * kLn2 + rho.shift;
    sum = T(log_sum);
    rest = log_sum - log_sum == 0. ? T(log_sum - double(sum)) : T(0);
  }

 private:
  static constexpr int kHeadroom = 60;

  // Moves the shift to a term that counts, and to no other: a term without weight may be arbitrarily large.
  __device__ __forceinline__ static void raise(T scale, T s, bool counts, T& minus_shift, T& sum, T& exponent) {
    if (!(exponent > T(kHeadroom))) return;
    exponent = T(0);
    if (!counts) return;
    const T raised = -scale * s;
    sum *= rescaling_exp2(raised - minus_shift);
    minus_shift = raised;
    exponent = fused(scale, s, raised);
  }

  template <int... a>
  __device__ __forceinline__ void accumulate(const T (&exponent)[2][kAnchors], const T (&weight)[2],
                                             std::integer_sequence<int, a...>) {
    (accumulate_one<0, a>(exponent, weight), ...);
    (accumulate_one<1, a>(exponent, weight), ...);
  }

  template <int side, int a>
  __device__ __forceinline__ void accumulate_one(const T (&exponent)[2][kAnchors], const T (&weight)[2]) {
    if (takes(sides, side)) sum_[side][a] += weight[side] * exp2_of_place<side * kAnchors + a>(exponent[side][a]);
  }

  T minus_shift_[2][kAnchors], sum_[2][kAnchors];
};

// d loss / d s = d loss / d L * scale * weight * 2^(exponent s + offset), offset being (shift - L) log2(e).
template <class T, Sides sides>
class ExponentialGradient {
 public:
  static constexpr Sides kSides = sides;

  __device__ static AnchorFactors<T> of_anchor(const Rho& rho, const PairSumsGradient<T>& gradient, int64_t anchor) {
    AnchorFactors<T> factors;
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      const RhoSide& from = side == 0 ? rho.positive : rho.negative;
      const int64_t k = 2 * anchor + side;
      // The logarithm of an empty sum has no gradient, whatever comes from above.
      const bool empty = gradient.sums[k] == -kInfinity<T>;
      const double rest = gradient.rest == nullptr ? 0. : double(gradient.rest[k]);
      const double offset = (from.shift - double(gradient.sums[k]) - rest) * kLog2E;
      factors.offset[side] = empty ? T(-1e30) : T(offset);
      // What T cannot hold of the logarithm is one factor for the whole sum.
      const double lost = metrix::exp2(offset - double(factors.offset[side]));
      factors.factor[side] = empty ? T(0) : T(double(gradient.grad_sums[k]) * from.scale * lost);
    }
    return factors;
  }

  // No term of a sum exceeds the sum, so 2^exponent <= 1 / weight: with weights that are not tiny it cannot overflow.
  __device__ __forceinline__ static bool is_safe(const T (&weight)[2]) {
    return (!takes(sides, 0) || weight[0] >= kLeastWeight) && (!takes(sides, 1) || weight[1] >= kLeastWeight);
  }

  template <bool kClamps, int place>
  __device__ __forceinline__ static T of_term(const DeviceRho<T>& rho, T s, const T (&weight)[2],
                                              const AnchorFactors<T>& anchor) {
    T ds = T(0);
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      if (!takes(sides, side)) continue;
      T exponent = fused(rho.exponent[side], s, anchor.offset[side]);
      if (kClamps) exponent = at_most(exponent, T(100));
      const T e = side == 0 ? exp2_of_place<2 * place>(exponent) : exp2_of_place<2 * place + 1>(exponent);
      ds += anchor.factor[side] * (weight[side] * e);
    }
    return ds;
  }

 private:
  static constexpr T kLeastWeight = T(1e-30);
};

struct Exponential {
  template <class T, int kAnchors, Sides sides>
  using Sum = ExponentialSum<T, kAnchors, sides>;
  template <class T, Sides sides>
  using Gradient = ExponentialGradient<T, sides>;
};

}  // namespace metrix::cuda
