// Sums of one thread over terms weight * rho(s), for the positive (0) and the negative side (1) of several anchors.
#pragma once

#include <utility>

#include "pair_sums.h"
#include "cuda/common/exp2.cuh"

namespace metrix::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Which of the two sums the terms go to: label 1, label 0, or a label in between.
enum class Sides { kPositive, kNegative, kBoth };

__host__ __device__ constexpr bool takes(Sides sides, int side) {
  return sides == Sides::kBoth || (side == 0) == (sides == Sides::kPositive);
}

template <class T>
constexpr T kInfinity = T(__builtin_huge_val());

template <class T>
constexpr T kNaN = T(__builtin_nan(""));

// rho of both sides in the kernels' type, made once on the host; exponent is scale in base 2.
template <class T>
struct Scales {
  T scale[2], shift[2], floor[2], exponent[2];

  explicit Scales(const Rho& rho) {
    for (int side = 0; side < 2; ++side) {
      const RhoSide& from = side == 0 ? rho.positive : rho.negative;
      scale[side] = T(from.scale);
      shift[side] = T(from.shift);
      floor[side] = T(from.floor);
      exponent[side] = T(from.scale * kLog2E);
    }
  }
};

// One rounding, also where the compiler would share the product with something else.
__device__ __forceinline__ float fused(float x, float y, float z) { return ::fmaf(x, y, z); }
__device__ __forceinline__ double fused(double x, double y, double z) { return ::fma(x, y, z); }

// A partial sum on its way through memory. Exponentials: sum * 2^shift (nothing is 0 * 2^-inf).
// Linear: sum, and in shift the number of terms that are not 0.
template <class T>
struct Cell {
  T shift, sum;
};

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  METRIX_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
  return x;
}

template <class T>
__device__ __forceinline__ T warp_max(T x) {
  METRIX_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, lanes);
    x = other > x ? other : x;
  }
  return x;
}

// Exponentials: sum * 2^shift. The shift need not be the largest exponent, only close enough for the range of a
// float: it moves when a term exceeds it by 2^kHeadroom, so that the usual term costs a comparison and no rescaling.
template <class T, int kAnchors, Sides sides>
class ExponentialSums {
 public:
  static constexpr int kSize = kAnchors;
  static constexpr Sides kSides = sides;
  static constexpr int kBlocks = 5;  // of 128 threads on a multiprocessor: their share of the registers suffices

  __device__ __forceinline__ ExponentialSums() {
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) {
        minus_shift_[side][a] = kInfinity<T>;
        sum_[side][a] = T(0);
      }
    }
  }

  // One term of each anchor but those of which skip has the bit; kSkips is whether there can be any.
  template <bool kSkips>
  __device__ __forceinline__ void add(const Scales<T>& rho, const T (&s)[kAnchors], const T (&weight)[2],
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

  // The sum of a warp, in all of its lanes.
  __device__ __forceinline__ Cell<T> of_warp(int side, int a) const {
    const T shift = -minus_shift_[side][a], top = warp_max(shift);
    const T share = shift == top ? sum_[side][a] : sum_[side][a] * rescaling_exp2(shift - top);
    return {top, warp_sum(share)};
  }

  __device__ static Cell<T> nothing() { return {-kInfinity<T>, T(0)}; }

  __device__ static Cell<T> merge(const Cell<T>& x, const Cell<T>& y) {
    if (y.shift == -kInfinity<T>) return x;
    if (x.shift == -kInfinity<T>) return y;
    const T top = x.shift > y.shift ? x.shift : y.shift;
    return {top, x.sum * rescaling_exp2(x.shift - top) + y.sum * rescaling_exp2(y.shift - top)};
  }

  // The logarithm of a sum that is 0 is minus infinity: the empty set.
  __device__ static void write(const Cell<T>& cell, const RhoSide& rho, T& sum, T& rest) {
    const double log_sum = (::log2(double(cell.sum)) + double(cell.shift)) * kLn2 + rho.shift;
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

template <class T, int kAnchors, Sides sides>
class LinearSums {
 public:
  static constexpr int kSize = kAnchors;
  static constexpr Sides kSides = sides;
  static constexpr int kBlocks = 4;

  __device__ __forceinline__ LinearSums() {
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) count_[side][a] = sum_[side][a] = T(0);
    }
  }

  template <bool kSkips>
  __device__ __forceinline__ void add(const Scales<T>& rho, const T (&s)[kAnchors], const T (&weight)[2],
                                      unsigned skip) {
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      if (!takes(sides, side)) continue;
      METRIX_UNROLL
      for (int a = 0; a < kAnchors; ++a) {
        const T w = kSkips && (skip >> a & 1) ? T(0) : weight[side];
        const T term = w * linear_rho(s[a], rho.scale[side], rho.shift[side], rho.floor[side]);
        sum_[side][a] += term;
        count_[side][a] += term != T(0) ? T(1) : T(0);
      }
    }
  }

  __device__ __forceinline__ Cell<T> of_warp(int side, int a) const {
    return {warp_sum(count_[side][a]), warp_sum(sum_[side][a])};
  }

  __device__ static Cell<T> nothing() { return {T(0), T(0)}; }
  __device__ static Cell<T> merge(const Cell<T>& x, const Cell<T>& y) { return {x.shift + y.shift, x.sum + y.sum}; }
  __device__ static void write(const Cell<T>& cell, const RhoSide&, T& sum, T& rest) {
    sum = cell.sum;
    rest = cell.shift;
  }

 private:
  T count_[2][kAnchors], sum_[2][kAnchors];
};

// The finished sum of an anchor.
template <class Sums, class T>
__device__ __forceinline__ void write_sum(const Cell<T>& cell, int64_t anchor, int side, const Rho& rho,
                                          const PairSumsOutput<T>& output) {
  const int64_t k = 2 * anchor + side;
  Sums::write(cell, side == 0 ? rho.positive : rho.negative, output.sums[k], output.rest[k]);
}

}  // namespace metrix::cuda
