// 1 / |z| of every mix, by a warp each. In double precision, where the squares of single numbers do not overflow.
#pragma once

#include "cuda/common/launch.h"
#include "inner_products.cuh"

namespace metrix::cuda {

constexpr int kNormWarps = 8;
constexpr double kSmallestNorm = 1e-12;  // as of torch.nn.functional.normalize

// 1 / max(|z|, 1e-12) of the warp's mix in all lanes, or 1 if the similarity is that of z itself; NaN if the mix is not
// finite.
template <class T, class E>
__device__ __forceinline__ T inverse_norm_by_warp(const AnchorSumsArgs<T>& args, bool aligned, int64_t mix) {
  const E* const row = static_cast<const E*>(args.mixed) + mix * args.size;
  double square = 0.;
  for (int64_t at = int64_t(threadIdx.x) % kWarp * kRun<T>; at < args.size; at += kWarp * kRun<T>) {
    T run[kRun<T>];
    load_run(row, at, args.size, aligned, run);
    METRIX_UNROLL
    for (int e = 0; e < kRun<T>; ++e) square += double(run[e]) * double(run[e]);
  }
  square = warp_sum(square);
  const double norm = args.normalize ? at_least(SquareRoot<double>::of(square), kSmallestNorm) : 1.;
  return T(1. / norm + 0. * square);
}

template <class T, class E>
__global__ void __launch_bounds__(kNormWarps* kWarp)
    inverse_norms_of_mixes(const AnchorSumsArgs<T> args, bool aligned, T* __restrict__ inverse) {  // [p]
  const int64_t mix = int64_t(blockIdx.x) * kNormWarps + threadIdx.x / kWarp;
  if (mix >= args.mixes.count) return;
  const T own = inverse_norm_by_warp<T, E>(args, aligned, mix);
  if (threadIdx.x % kWarp == 0) inverse[mix] = own;
}

// The same arguments with the inverse norms, which are written where there is room for them.
template <class T>
AnchorSumsArgs<T> with_inverse_norms(AnchorSumsArgs<T> args, T* inverse, void* stream) {
  if (args.mixes.count > 0)
    with_element<T>(args.element, [&](auto element) {
      launch("anchor_sums, norms", inverse_norms_of_mixes<T, decltype(element)>,
             dim3(unsigned(ceil_div(args.mixes.count, kNormWarps))), kNormWarps * kWarp, stream, args,
             has_aligned_rows(args), inverse);
    });
  args.inverse_norms = inverse;
  return args;
}

}  // namespace metrix::cuda
