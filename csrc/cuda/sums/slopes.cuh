// d(loss)/ds of a term: what backward multiplies everything with.
#pragma once

#include "sums.cuh"

namespace metrix::cuda {

// What an anchor's terms need, of both sides. Exponentials: weight * factor * 2^(scale s + offset), the offset being
// minus the logarithm of the sum. Linear: weight * factor * slope of rho.
template <class T>
struct alignas(4 * sizeof(T)) AnchorTerms {
  T offset[2], factor[2];
};

template <class T, Sides sides>
class ExponentialSlope {
 public:
  static constexpr Sides kSides = sides;

  __device__ static AnchorTerms<T> of_anchor(const Rho& rho, const PairSumsGradient<T>& gradient, int64_t anchor) {
    AnchorTerms<T> terms;
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      const RhoSide& from = side == 0 ? rho.positive : rho.negative;
      const int64_t k = 2 * anchor + side;
      // The logarithm of an empty sum has no gradient, whatever comes from above.
      const bool empty = gradient.sums[k] == -kInfinity<T>;
      const double rest = gradient.rest == nullptr ? 0. : double(gradient.rest[k]);
      const double offset = (from.shift - double(gradient.sums[k]) - rest) * kLog2E;
      terms.offset[side] = empty ? T(-1e30) : T(offset);
      // What T cannot hold of the logarithm is one factor for the whole sum.
      const double lost = metrix::exp2(offset - double(terms.offset[side]));
      terms.factor[side] = empty ? T(0) : T(double(gradient.grad_sums[k]) * from.scale * lost);
    }
    return terms;
  }

  // Whether 2^exponent times this weight cannot overflow: no term of a sum exceeds it, so 2^exponent <= 1 / weight.
  __device__ __forceinline__ static bool is_safe(const T (&weight)[2]) {
    return (!takes(sides, 0) || weight[0] >= kLeastWeight) && (!takes(sides, 1) || weight[1] >= kLeastWeight);
  }

  template <bool kChecked, int place>
  __device__ __forceinline__ static T of_term(const Scales<T>& rho, T s, const T (&weight)[2],
                                              const AnchorTerms<T>& anchor) {
    T ds = T(0);
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side) {
      if (!takes(sides, side)) continue;
      T exponent = fused(rho.exponent[side], s, anchor.offset[side]);
      if (kChecked) exponent = at_most(exponent, T(100));
      const T e = side == 0 ? exp2_of_place<2 * place>(exponent) : exp2_of_place<2 * place + 1>(exponent);
      ds += anchor.factor[side] * (weight[side] * e);
    }
    return ds;
  }

 private:
  static constexpr T kLeastWeight = T(1e-30);
};

template <class T, Sides sides>
class LinearSlope {
 public:
  static constexpr Sides kSides = sides;

  __device__ static AnchorTerms<T> of_anchor(const Rho&, const PairSumsGradient<T>& gradient, int64_t anchor) {
    const T* grad = gradient.grad_sums + 2 * anchor;
    return {{T(0), T(0)}, {grad[0], grad[1]}};
  }

  __device__ __forceinline__ static bool is_safe(const T (&)[2]) { return true; }

  template <bool kChecked, int place>
  __device__ __forceinline__ static T of_term(const Scales<T>& rho, T s, const T (&weight)[2],
                                              const AnchorTerms<T>& anchor) {
    T ds = T(0);
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side)
      if (takes(sides, side))
        ds += anchor.factor[side] *
              (weight[side] * linear_rho_slope(s, rho.scale[side], rho.shift[side], rho.floor[side]));
    return ds;
  }
};

}  // namespace metrix::cuda
