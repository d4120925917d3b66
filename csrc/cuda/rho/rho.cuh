// What the kernels ask of a family of rho (Table 1). For anchor a each of the two sums is over terms weight * rho(s), s
// being the similarity of a mix to a:
//   forward   sum(a, side) = sum over mixes of weight(side) * rho_side(s)          RhoSum, in registers of a thread
//   backward  d loss / d s = sum over sides of d loss / d sum(a, side) * d sum(a, side) / d s            RhoGradient
// A family is one file with both side by side: exponential.cuh, linear.cuh. families.cuh lists them; pointwise.cuh is a
// template for a family that has no need of its own classes, and says how to add one.
#pragma once

#include <concepts>
#include <type_traits>

#include "cuda/common/warp.cuh"
#include "pair_sums.h"

namespace metrix::cuda {

// Which of the two sums terms go to: positive (label 1), negative (label 0), or both (a label in between).
enum class Sides { kPositive, kNegative, kBoth };

// side 0 is the positive sum, side 1 the negative one.
__host__ __device__ constexpr bool takes(Sides sides, int side) {
  return sides == Sides::kBoth || (side == 0) == (sides == Sides::kPositive);
}

// Calls with the sides as a constant of the compiler.
template <class Call>
void with_sides(Sides sides, const Call& call) {
  if (sides == Sides::kBoth) return call(std::integral_constant<Sides, Sides::kBoth>{});
  if (sides == Sides::kPositive) return call(std::integral_constant<Sides, Sides::kPositive>{});
  call(std::integral_constant<Sides, Sides::kNegative>{});
}

// rho of both sides in the kernels' type, made once on the host; exponent is scale in base 2. Kernels take similarities
// less margin_range times the label, for both sides at once. What a positive side of another margin_range lacks, is
// positive_shift times the label.
template <class T>
struct DeviceRho {
  T scale[2], shift[2], floor[2], exponent[2];
  T margin_range, positive_shift;

  explicit DeviceRho(const Rho& rho) {
    for (int side = 0; side < 2; ++side) {
      const RhoSide& from = side == 0 ? rho.positive : rho.negative;
      scale[side] = T(from.scale);
      shift[side] = T(from.shift);
      floor[side] = T(from.floor);
      exponent[side] = T(from.scale * kLog2E);
    }
    margin_range = T(rho.negative.margin_range);
    positive_shift = T(rho.positive.scale * (rho.negative.margin_range - rho.positive.margin_range));
  }

  // The shift of a linear term; the weight of a positive one is its label.
  __device__ __forceinline__ T shift_of(int side, T weight) const {
    return side == 0 ? shift[0] + positive_shift * weight : shift[1];
  }
};

// What the similarity of a mix is taken less: of mixes that all have one label nothing.
template <class T>
__device__ __forceinline__ T margin_of(const DeviceRho<T>& rho, const T (&weight)[2], Sides sides = Sides::kBoth) {
  return sides == Sides::kBoth ? rho.margin_range * weight[0] : T(0);
}

// A sum over some of the terms on its way through memory, in two numbers whose meaning is the family's.
// Exponential: sum * 2^shift, as in a streaming logsumexp. Pointwise: sum, and in shift how many terms are not 0.
template <class T>
struct PartialSum {
  T shift, sum;
};

// What backward multiplies the terms of one anchor with, by side, computed once for all of them.
// Exponential: a term's d loss / d s is weight * factor * 2^(exponent * s + offset). Pointwise: weight * factor *
// d rho / d s.
template <class T>
struct alignas(4 * sizeof(T)) AnchorFactors {
  T offset[2], factor[2];
};

// The sums that one thread keeps in registers while terms pass by: of kAnchors anchors, on each side.
template <class Sum, class T>
concept RhoSum = requires(Sum sum, const DeviceRho<T>& rho, const T (&s)[Sum::kAnchors], const T (&weight)[2],
                          unsigned skip, int index, const PartialSum<T>& partial, const RhoSide& of_side, T& number) {
  // How many anchors. What a pair (i, j) costs, lambda, norm and weights, is shared by them.
  { Sum::kAnchors } -> std::convertible_to<int>;
  // Sides that get terms: of the others nothing is computed, and no register kept.
  { Sum::kSides } -> std::convertible_to<Sides>;
  // Blocks of 128 threads on a multiprocessor, for __launch_bounds__: what the registers of the sums leave room for.
  { Sum::kBlocksPerMultiprocessor } -> std::convertible_to<int>;
  // Whether write() gives the number of terms that are not 0 (the mean over non-zero terms needs it).
  { Sum::kCountsTerms } -> std::convertible_to<bool>;
  // Begins with no terms.
  Sum();
  // Adds one term for every anchor: similarities s less the margin, weights by side. skip has a bit for each anchor
  // that goes without; add<false> is the inner loop of the many mixes that no anchor skips.
  sum.template add<true>(rho, s, weight, skip);
  sum.template add<false>(rho, s, weight, skip);
  // The sum over the 32 threads of a warp, for (side, anchor).
  { sum.over_warp(index, index) } -> std::same_as<PartialSum<T>>;
  // That of this thread alone.
  { sum.partial(index, index) } -> std::same_as<PartialSum<T>>;
  // One term as a sum of its own, for (rho, side, s, weight): kernels whose lanes have terms of different anchors.
  { Sum::of_term(rho, index, *s, *weight) } -> std::same_as<PartialSum<T>>;
  // The sum of no terms, and of two partial sums: warps, then blocks are merged in a fixed order.
  { Sum::empty() } -> std::same_as<PartialSum<T>>;
  { Sum::merge(partial, partial) } -> std::same_as<PartialSum<T>>;
  // The finished sum, and as rest what PairSumsOutput says of it.
  Sum::write(partial, of_side, number, number);
};

// d loss / d s of one term.
template <class Gradient, class T>
concept RhoGradient =
    requires(const Rho& rho, const PairSumsGradient<T>& gradient, int64_t anchor, const T (&weight)[2],
             const DeviceRho<T>& device_rho, T s, const AnchorFactors<T>& factors) {
      // Sides that have terms, as in the forward sum.
      { Gradient::kSides } -> std::convertible_to<Sides>;
      // What all terms of an anchor share: where the anchor's sum and the gradient from above are read.
      { Gradient::of_anchor(rho, gradient, anchor) } -> std::same_as<AnchorFactors<T>>;
      // Whether a term of these weights is finite for every s of a pair that counts, so that it needs no clamp.
      { Gradient::is_safe(weight) } -> std::convertible_to<bool>;
      // <whether to clamp, the anchor's place in its block>: the place decides which unit evaluates an exponential.
      { Gradient::template of_term<true, 0>(device_rho, s, weight, factors) } -> std::same_as<T>;
      { Gradient::template of_term<false, 0>(device_rho, s, weight, factors) } -> std::same_as<T>;
    };

// Both, for every number of anchors and all sides.
template <class Family, class T>
concept RhoFamily = RhoSum<typename Family::template Sum<T, 1, Sides::kPositive>, T> &&
                    RhoSum<typename Family::template Sum<T, 4, Sides::kBoth>, T> &&
                    RhoGradient<typename Family::template Gradient<T, Sides::kBoth>, T>;

// The finished sum of an anchor.
template <class Sum, class T>
__device__ __forceinline__ void write_sum(const PartialSum<T>& partial, int64_t anchor, int side, const Rho& rho,
                                          const PairSumsOutput<T>& output) {
  const int64_t k = 2 * anchor + side;
  Sum::write(partial, side == 0 ? rho.positive : rho.negative, output.sums[k], output.rest[k]);
}

}  // namespace metrix::cuda
