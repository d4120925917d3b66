// The mix of two examples: its weights in similarities and in the two sums.
#pragma once

#include "relations.cuh"

namespace metrix::cuda {

template <class T>
struct Mix {
  T first, second;  // s(a, mix) = first s(a, i) + second s(a, j)
  T weight[2];      // of rho in the positive and the negative sum
};

// lambda and the inner product of a pair, loaded ahead of their use.
template <class T>
struct PairData {
  T lambda, gram;
};

// From the matrices by (first, second), or for the sets with the anchor by (anchor, second).
template <class T>
__device__ __forceinline__ PairData<T> load_pair(const PairSumsArgs<T>& args, int64_t at) {
  return {args.lambda[args.lambda_is_scalar ? 0 : at], args.renormalize ? args.gram[at] : T(0)};
}

template <class T>
__device__ __forceinline__ Mix<T> mix(const PairSumsArgs<T>& args, Sides sides, const PairData<T>& pair, T sqnorm_i,
                                      T sqnorm_j) {
  const T lambda = pair.lambda, mu = T(1) - lambda;
  Mix<T> m{lambda, mu, {T(1), T(1)}};
  if (sides == Sides::kBoth) {
    m.weight[0] = lambda;
    m.weight[1] = mu;
  }
  if (args.renormalize) {
    const T square = mixed_square_norm(lambda, sqnorm_i, sqnorm_j, pair.gram);
    const T inverse = inverse_square_root(at_least(square, T(1e-24)));
    m.first *= inverse;
    m.second *= inverse;
  }
  return m;
}

}  // namespace metrix::cuda
