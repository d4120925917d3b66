// The sums with one term per anchor a and example j: the clean ones over P(a) and N(a), and the mixes of the anchor
// itself with j (anc-neg, anc-pos). A block takes an anchor, a thread some columns j of its row. Memory is the limit
// here: every element is read once.
//
//   load        s(a, j), whether j is a candidate; for mixes lambda_aj, <x_a, x_j>    load_term, pair.cuh
//   mix         s = first s(a, a) + second s(a, j), or s(a, j) itself                 pair.cuh, mix()
//   forward     exponent, accumulate: sum[side] += weight[side] rho(s)                rho/exponential.cuh, add()
//               merge over the lanes, then over the warps of the block
//   backward    ds = d loss / d s                                                     rho/exponential.cuh, of_term()
//               d s(a, j) = second ds;  d s(a, a) = sum over j of first ds, over the block
#pragma once

#include "pair.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kExampleThreads = 32;
#else
constexpr int kExampleThreads = 256;
#endif

// The term of one anchor and example.
template <class T>
struct ExampleTerm {
  T s;
  Mix<T> mix;
  bool is_finite;
};

// Returns false where the example is no candidate.
template <Pass pass, class T>
__device__ __forceinline__ bool load_term(const PairSumsArgs<T>& args, const PairSet& set, int64_t anchor, int column,
                                          ExampleTerm<T>& term) {
  const bool is_self = args.self[anchor] == column;
  const T s = args.similarity[anchor * args.examples + column];
  if (args.pairs == Pairs::kClean) {
    const bool positive = Candidates<T>(args, anchor, true).contains(column) && !is_self;
    const bool negative = Candidates<T>(args, anchor, false).contains(column);
    term = {s, {T(0), T(1), {T(positive), T(negative)}}, s - s == T(0)};
    return positive || negative;
  }
  if (is_self || !Candidates<T>(args, anchor, set.second_positive).contains(column)) return false;
  const T own = args.self_similarity[anchor * args.self_stride];
  term.mix = mix<pass>(args, set.sides, load_pair(args, anchor * args.examples + column),
                       args.renormalize ? args.self_sqnorm[anchor * args.self_stride] : T(0),
                       args.renormalize ? args.sqnorm[column * args.sqnorm_stride] : T(0));
  if (set.sides == Sides::kPositive) term.mix.weight[1] = T(0);
  term.s = mixed_similarity(term.mix.first, term.mix.second, own, s);
  term.is_finite = s - s == T(0) && own - own == T(0);
  return true;
}

template <class T, RhoFamily<T> Family>
__global__ void __launch_bounds__(kExampleThreads)
    sum_examples(const PairSumsArgs<T> args, const DeviceRho<T> rho, const PairSumsOutput<T> output) {
  using Positive = typename Family::template Sum<T, 1, Sides::kPositive>;
  using Negative = typename Family::template Sum<T, 1, Sides::kNegative>;
  __shared__ PartialSum<T> of_warps[kExampleThreads / kWarp][2];
  const PairSet set = describe(args.pairs);
  const int64_t anchor = blockIdx.x;
  Positive positive;
  Negative negative;
  bool is_not_finite = false;
  for (int64_t column = threadIdx.x; column < args.examples; column += blockDim.x) {
    ExampleTerm<T> term;
    if (!load_term<Pass::kForward>(args, set, anchor, int(column), term)) continue;
    is_not_finite |= !term.is_finite;
    const T s[1] = {less_margin(term.s, rho.margin_range, term.mix.weight[0])};
    if (term.mix.weight[0] != T(0)) positive.template add<false>(rho, s, term.mix.weight, 0);
    if (term.mix.weight[1] != T(0)) negative.template add<false>(rho, s, term.mix.weight, 0);
  }
  const PartialSum<T> sums[2] = {positive.over_warp(0, 0), negative.over_warp(1, 0)};
  if (threadIdx.x % kWarp == 0) {
    of_warps[threadIdx.x / kWarp][0] = sums[0];
    of_warps[threadIdx.x / kWarp][1] = sums[1];
  }
  is_not_finite |= sums[0].sum != sums[0].sum || sums[1].sum != sums[1].sum;  // by lambda or a norm
  is_not_finite = __syncthreads_or(is_not_finite);
  if (threadIdx.x < 2) {
    PartialSum<T> sum = Positive::empty();
    for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp) sum = Positive::merge(sum, of_warps[warp][threadIdx.x]);
    if (is_not_finite) sum = {T(0), kNaN<T>};
    write_sum<Positive>(sum, anchor, int(threadIdx.x), args.rho, output);
  }
}

// Gradients of the anchor's row and of its own similarity. The moments ds * s, from which those of the norms follow,
// go where the gradient of the inner products will be.
template <class T, RhoGradient<T> Gradient>
__global__ void __launch_bounds__(kExampleThreads)
    example_gradients(const PairSumsArgs<T> args, const DeviceRho<T> rho, const PairSumsGradient<T> gradient,
                      T* moments) {  // [m, n] or null
  __shared__ T warp_own[kExampleThreads / kWarp];
  const PairSet set = describe(args.pairs);
  const int64_t anchor = blockIdx.x;
  const AnchorFactors<T> factors = Gradient::of_anchor(args.rho, gradient, anchor);
  T own = T(0);
  for (int64_t column = threadIdx.x; column < args.examples; column += blockDim.x) {
    ExampleTerm<T> term;
    T ds = T(0), moment = T(0), second = T(0);
    if (load_term<Pass::kBackward>(args, set, anchor, int(column), term)) {
      const T argument = less_margin(term.s, rho.margin_range, term.mix.weight[0]);
      ds = Gradient::template of_term<true, 0>(rho, argument, term.mix.weight, factors);
      moment = ds * term.s;
      second = ds * term.mix.second;
      own += ds * term.mix.first;
    }
    T* const to = gradient.similarity + anchor * args.examples + column;
    *to = gradient.adds ? *to + second : second;
    if (moments != nullptr) moments[anchor * args.examples + column] = moment;
  }
  if (args.pairs == Pairs::kClean) return;
  own = warp_sum(own);
  if (threadIdx.x % kWarp == 0) warp_own[threadIdx.x / kWarp] = own;
  __syncthreads();
  if (threadIdx.x == 0) {
    T total = T(0);
    for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp) total += warp_own[warp];
    T* const to = gradient.self_similarity + anchor * args.self_stride;
    *to = is_diagonal(args.self_stride) ? *to + total : total;  // past the barrier: a thread has written the row
  }
}

}  // namespace metrix::cuda
