// The sums with one term per anchor and example: the clean ones over P(a) and N(a), and the mixes with the anchor
// itself. A block takes an anchor. Memory is the limit here: every element is read once.
#pragma once

#include "mix.cuh"
#include "cuda/sums/slopes.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kRowThreads = 32;
#else
constexpr int kRowThreads = 256;
#endif

// The term of one anchor and example.
template <class T>
struct RowTerm {
  T s;
  Mix<T> mix;
  bool is_finite;
};

// Returns false where the example is no candidate.
template <class T>
__device__ __forceinline__ bool load_row_term(const PairSumsArgs<T>& args, const PairSet& set, int64_t anchor,
                                              int column, RowTerm<T>& term) {
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
  term.mix = mix(args, set.sides, load_pair(args, anchor * args.examples + column),
                 args.renormalize ? args.self_sqnorm[anchor * args.self_stride] : T(0),
                 args.renormalize ? args.sqnorm[column * args.sqnorm_stride] : T(0));
  if (set.sides == Sides::kPositive) term.mix.weight[1] = T(0);
  term.s = mixed_similarity(term.mix.first, term.mix.second, own, s);
  term.is_finite = s - s == T(0) && own - own == T(0);
  return true;
}

template <class T, template <class, int, Sides> class SumsOf>
__global__ void __launch_bounds__(kRowThreads)
    sum_rows(const PairSumsArgs<T> args, const Scales<T> rho, const PairSumsOutput<T> output) {
  using Positive = SumsOf<T, 1, Sides::kPositive>;
  using Negative = SumsOf<T, 1, Sides::kNegative>;
  __shared__ Cell<T> warp_cells[kRowThreads / kWarp][2];
  const PairSet set = describe(args.pairs);
  const int64_t anchor = blockIdx.x;
  Positive positive;
  Negative negative;
  bool is_bad = false;
  for (int64_t column = threadIdx.x; column < args.examples; column += blockDim.x) {
    RowTerm<T> term;
    if (!load_row_term(args, set, anchor, int(column), term)) continue;
    is_bad |= !term.is_finite;
    const T s[1] = {term.s};
    if (term.mix.weight[0] != T(0)) positive.template add<false>(rho, s, term.mix.weight, 0);
    if (term.mix.weight[1] != T(0)) negative.template add<false>(rho, s, term.mix.weight, 0);
  }
  const Cell<T> cells[2] = {positive.of_warp(0, 0), negative.of_warp(1, 0)};
  if (threadIdx.x % kWarp == 0) {
    warp_cells[threadIdx.x / kWarp][0] = cells[0];
    warp_cells[threadIdx.x / kWarp][1] = cells[1];
  }
  is_bad = __syncthreads_or(is_bad);
  if (threadIdx.x < 2) {
    Cell<T> cell = Positive::nothing();
    for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp)
      cell = Positive::merge(cell, warp_cells[warp][threadIdx.x]);
    if (is_bad) cell = {T(0), kNaN<T>};
    write_sum<Positive>(cell, anchor, int(threadIdx.x), args.rho, output);
  }
}

// Gradients of the anchor's row and of its own similarity. The moments ds * s, from which those of the norms follow,
// go where the gradient of the inner products will be.
template <class T, class Slope>
__global__ void __launch_bounds__(kRowThreads)
    row_gradients(const PairSumsArgs<T> args, const Scales<T> rho, const PairSumsGradient<T> gradient, T* moments) {
  __shared__ T warp_own[kRowThreads / kWarp];
  const PairSet set = describe(args.pairs);
  const int64_t anchor = blockIdx.x;
  const AnchorTerms<T> terms = Slope::of_anchor(args.rho, gradient, anchor);
  T own = T(0);
  for (int64_t column = threadIdx.x; column < args.examples; column += blockDim.x) {
    RowTerm<T> term;
    T ds = T(0), moment = T(0), second = T(0);
    if (load_row_term(args, set, anchor, int(column), term)) {
      ds = Slope::template of_term<true, 0>(rho, term.s, term.mix.weight, terms);
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
