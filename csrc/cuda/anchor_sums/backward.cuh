// anchor_sums by warps, backward, for every type: the gradient of the mixes by warps that own 4 of them, that of the
// anchors by blocks that own 4 of those. Nothing of forward is kept but its sums:
//
//   prepare_anchors   what the terms of an anchor share: its sum, the gradient from above    rho/exponential.cuh
//   mixed_gradients   a warp, 4 mixes q; for every 8 anchors a of the classes of their examples:
//     index       which anchors, and which of them use mix q                       AnchorRange; class_groups.cuh
//     load, mix   s = <z_q, x_a> / |z_q| of 32 terms, one a lane                   inner_products.cuh
//     exponent    ds = d loss / d s, in each lane                                  rho/exponential.cuh, of_term()
//     accumulate  d z_q += ds x_a, and along_q += ds s                             add_rows()
//     merge       (d z_q - along_q z_q / |z_q|) / |z_q|, rounded to the type of z
//   anchor_gradients  a block, 4 anchors a; for every 8 mixes q of a warp that some of them use:
//     the same, but d x_a += ds z_q / |z_q|
//     merge       warps through shared memory, splits of the mixes in add_splits
//
//     lane l holds elements [4 l, 4 l + 4), [4 l + 128, ...), [4 l + 256, ...), [4 l + 384, ...) of each of its 4 rows:
//     slice 0  |0000|1111|...|31..|0000|1111|...|31..| ... 512 floats |  slice 1 (blockIdx.y)  | ...
#pragma once

#include "class_groups.cuh"
#include "cuda/rho/families.cuh"
#include "inverse_norms.cuh"

namespace metrix::cuda {

constexpr int kOwnMixes = 4, kOwnAnchors = 4;
constexpr int kOtherMixes = kWarp / kOwnAnchors, kOtherAnchors = kWarp / kOwnMixes;

// Elements of a row that a warp has in registers at once: 512 floats or 128 doubles. 4 rows of them take 64 registers
// of a lane (double: 32), a row that is added to them another 16 (8).
template <class T>
constexpr int kRuns = sizeof(T) == 4 ? 4 : 2;

template <class T>
constexpr int kSlice = kWarp * kRun<T> * kRuns<T>;

template <class T>
__device__ __forceinline__ int64_t element_of_run(int64_t slice, int run) {
  return slice * kSlice<T> + (run * kWarp + threadIdx.x % kWarp) * kRun<T>;
}

// A lane's part of a few rows.
template <class T, int kRows>
using OwnRows = T[kRows][kRuns<T>][kRun<T>];

// Adds the rows of the other side, each times the coefficient of the lane that has both rows: lane kOwnStride own +
// kOtherStride other.
template <int kOwnStride, int kOtherStride, class T, class E, int kOwn>
__device__ __forceinline__ void add_rows(T (&own)[kOwn][kRuns<T>][kRun<T>], const LaneRows<E>& others,
                                         T lane_coefficient, int64_t slice, bool aligned) {
#pragma unroll 1
  for (int other = 0; other < kWarp / kOwn; ++other) {
    const E* const row = others.of_lane(other * kOtherStride);
    T run[kRuns<T>][kRun<T>];
    METRIX_UNROLL
    for (int r = 0; r < kRuns<T>; ++r) {
      const int64_t at = element_of_run<T>(slice, r);
      load_run(row, at, others.size, aligned && at < others.size, run[r]);
    }
    METRIX_UNROLL
    for (int k = 0; k < kOwn; ++k) {
      const T coefficient = __shfl_sync(kAllLanes, lane_coefficient, k * kOwnStride + other * kOtherStride);
      // A row that is not used may be NaN.
      if (coefficient == T(0)) continue;
      METRIX_UNROLL
      for (int r = 0; r < kRuns<T>; ++r) {
        METRIX_UNROLL
        for (int e = 0; e < kRun<T>; ++e) own[k][r][e] = fused(coefficient, run[r][e], own[k][r][e]);
      }
    }
  }
}

template <class Family, class T>
using GradientOf = typename Family::template Gradient<T, Sides::kBoth>;

// d loss / d s of a term.
template <class T>
__device__ __forceinline__ T similarity_gradient(const AnchorSumsArgs<T>& args, const DeviceRho<T>& rho,
                                                 const AnchorTerm<T>& term, T s, const AnchorFactors<T>& factors) {
  const T argument = less_margin(s, rho.margin_range, term.weight[0]);
  return in_family(args.rho.exponential, [&](auto family) {
    return GradientOf<decltype(family), T>::template of_term<true, 0>(rho, argument, term.weight, factors);
  });
}

constexpr int kTermThreads = 128;

template <class T>
__global__ void __launch_bounds__(kTermThreads)
    prepare_anchors(int64_t anchors, const Rho rho, const PairSumsGradient<T> sums,
                    AnchorFactors<T>* factors) {  // [m]
  const int64_t anchor = int64_t(blockIdx.x) * kTermThreads + threadIdx.x;
  if (anchor >= anchors) return;
  factors[anchor] = in_family(
      rho.exponential, [&](auto family) { return GradientOf<decltype(family), T>::of_anchor(rho, sums, anchor); });
}

// ---- the gradient of the mixes --------------------------------------------------------------------------------

// The places of the anchors that may use a mix: those of the classes of its two examples. Lane l has the first or
// second range of mix l % kOwnMixes, the lanes from kRanges on have none.
struct AnchorRange {
  static constexpr int kRanges = 2 * kOwnMixes;
  int64_t begin = 0, end = 0;

  template <class T>
  __device__ __forceinline__ AnchorRange(const AnchorSumsArgs<T>& args, int64_t first_mix) {
    const int lane = int(threadIdx.x) % kWarp;
    const int64_t mix = first_mix + lane % kOwnMixes;
    if (args.anchor_order == nullptr) {
      if (lane == 0) end = args.relations.anchors;
    } else if (lane < (args.both_orders ? kRanges : kOwnMixes) && mix < args.mixes.count) {
      const int64_t example = lane < kOwnMixes ? args.mixes.first[mix] : args.mixes.second[mix];
      begin = args.anchors_of[2 * example];
      end = args.anchors_of[2 * example + 1];
    }
  }
};

// blockIdx.y is the slice.
template <class T, class E>
__global__ void __launch_bounds__(kAnchorWarps* kWarp)
    mixed_gradients(const AnchorSumsArgs<T> args, const DeviceRho<T> rho, bool aligned,
                    const AnchorFactors<T>* __restrict__ factors,  // [m]
                    const AnchorSumsGradient<T> gradient) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int64_t first_mix = (int64_t(blockIdx.x) * kAnchorWarps + warp) * kOwnMixes;
  if (first_mix >= args.mixes.count) return;
  const int64_t own = first_mix + lane / kOtherAnchors, mix = own < args.mixes.count ? own : -1;
  const T inverse = mix < 0 ? T(0) : inverse_norm(args, mix);
  const LaneRows<E> mixes{static_cast<const E*>(args.mixed), args.size, mix};
  const AnchorRange lane_range(args, first_mix);
  OwnRows<T, kOwnMixes> sum = {};
  T along = T(0);  // the gradient by the unit vector, along that vector
  for (int r = 0; r < AnchorRange::kRanges; ++r) {
    const int64_t begin = __shfl_sync(kAllLanes, lane_range.begin, r), end = __shfl_sync(kAllLanes, lane_range.end, r);
    const bool is_before = lane < r && lane_range.begin == begin && lane_range.end == end;
    if (__ballot_sync(kAllLanes, is_before) != 0) continue;
    for (int64_t place = begin; place < end; place += kOtherAnchors) {
      const int64_t own_place = place + lane % kOtherAnchors;
      int64_t anchor = -1;
      if (own_place < end) anchor = args.anchor_order == nullptr ? own_place : args.anchor_order[own_place];
      const AnchorTerm<T> term(args, anchor, mix);
      if (__ballot_sync(kAllLanes, term.is_used) == 0) continue;
      const LaneRows<T> anchors{args.anchors, args.size, anchor};
      const T s = inverse * inner_product<kOtherAnchors>(mixes, anchors, aligned);
      const T ds = term.is_used ? similarity_gradient(args, rho, term, s, factors[anchor]) : T(0);
      if (term.is_used) along += ds * s;
      add_rows<kOtherAnchors, 1>(sum, anchors, ds, int64_t(blockIdx.y), aligned);
    }
  }
  METRIX_UNROLL
  for (int lanes = kOtherAnchors / 2; lanes > 0; lanes /= 2) along += __shfl_xor_sync(kAllLanes, along, lanes);
  // At its floor the norm is a constant.
  if (!args.normalize || inverse >= T(1. / kSmallestNorm)) along = T(0);
  E* const written = static_cast<E*>(gradient.mixed);
  METRIX_UNROLL
  for (int q = 0; q < kOwnMixes; ++q) {
    const T scale = __shfl_sync(kAllLanes, inverse, q * kOtherAnchors);
    const T along_unit = scale * __shfl_sync(kAllLanes, along, q * kOtherAnchors);
    const E* const row = mixes.of_lane(q * kOtherAnchors);
    if (first_mix + q >= args.mixes.count) continue;
    METRIX_UNROLL
    for (int r = 0; r < kRuns<T>; ++r) {
      const int64_t at = element_of_run<T>(int64_t(blockIdx.y), r);
      T run[kRun<T>];
      load_run(row, at, args.size, aligned && at < args.size, run);
      METRIX_UNROLL
      for (int e = 0; e < kRun<T>; ++e) run[e] = scale * (sum[q][r][e] - run[e] * along_unit);
      store_run(written + (first_mix + q) * args.size, at, args.size, aligned, run);
    }
  }
}

// ---- the gradient of the anchors ------------------------------------------------------------------------------

// blockIdx.y is the slice and the split; without partial there is one split, which adds to the gradient itself.
template <class T, class E>
__global__ void __launch_bounds__(kAnchorWarps* kWarp)
    anchor_gradients(const AnchorSumsArgs<T> args, const DeviceRho<T> rho, bool aligned, int64_t splits,
                     const AnchorFactors<T>* __restrict__ factors,  // [m]
                     T* partial,                                    // [splits, m, d] or null
                     T* anchor_gradient) {                          // [m, d]
  __shared__ T of_warps[kAnchorWarps][kOwnAnchors][kSlice<T>];
  AnchorGroup<kOwnAnchors> group;
  if (!group.load(args)) return;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int64_t split = blockIdx.y % splits, slice = blockIdx.y / splits;
  const LaneRows<T> anchors{args.anchors, args.size, group.anchor};
  OwnRows<T, kOwnAnchors> sum = {};
  const int64_t step = splits * kAnchorWarps * kOtherMixes;
  for (int64_t use = (split * kAnchorWarps + warp) * kOtherMixes; use < group.uses; use += step) {
    const int64_t mix = group.mix(args, use + lane / kOwnAnchors);
    const AnchorTerm<T> term(args, group.anchor, mix);
    if (__ballot_sync(kAllLanes, term.is_used) == 0) continue;
    const LaneRows<E> mixes{static_cast<const E*>(args.mixed), args.size, mix};
    const T inverse = mix < 0 ? T(0) : inverse_norm(args, mix);
    const T s = inverse * inner_product<kOwnAnchors>(mixes, anchors, aligned);
    const T ds = term.is_used ? inverse * similarity_gradient(args, rho, term, s, factors[group.anchor]) : T(0);
    add_rows<1, kOwnAnchors>(sum, mixes, ds, slice, aligned);
  }
  METRIX_UNROLL
  for (int a = 0; a < kOwnAnchors; ++a) {
    METRIX_UNROLL
    for (int r = 0; r < kRuns<T>; ++r) {
      METRIX_UNROLL
      for (int e = 0; e < kRun<T>; ++e) of_warps[warp][a][(r * kWarp + lane) * kRun<T> + e] = sum[a][r][e];
    }
  }
  __syncthreads();
  METRIX_UNROLL
  for (int a = 0; a < kOwnAnchors; ++a) {
    const int64_t anchor = __shfl_sync(kAllLanes, group.anchor, a);
    if (anchor < 0) continue;
    for (int k = int(threadIdx.x); k < kSlice<T> && slice * kSlice<T> + k < args.size; k += kAnchorWarps * kWarp) {
      T total = T(0);
      METRIX_UNROLL
      for (int w = 0; w < kAnchorWarps; ++w) total += of_warps[w][a][k];
      const int64_t at = anchor * args.size + slice * kSlice<T> + k;
      if (partial == nullptr)
        anchor_gradient[at] += total;
      else
        partial[split * args.relations.anchors * args.size + at] = total;
    }
  }
}

// Adds the splits in order.
template <class T>
__global__ void __launch_bounds__(kTermThreads) add_splits(int64_t elements, int64_t splits,
                                                           const T* __restrict__ partial,  // [splits, m, d]
                                                           T* anchor_gradient) {           // [m, d]
  const int64_t k = int64_t(blockIdx.x) * kTermThreads + threadIdx.x;
  if (k >= elements) return;
  T total = T(0);
  for (int64_t split = 0; split < splits; ++split) total += partial[split * elements + k];
  anchor_gradient[k] += total;
}

template <class T>
struct WarpBackwardPlan {
  int64_t splits, slices, workspace;
  T* inverse;                 // [p]
  AnchorFactors<T>* factors;  // [m]
  T* partial = nullptr;       // [splits, m, d]

  WarpBackwardPlan(const AnchorSumsArgs<T>& args, Workspace space)
      : splits(anchor_splits(args, args.size * int64_t(sizeof(T)))),
        slices(ceil_div(args.size, kSlice<T>)),
        inverse(space.take<T>(args.mixes.count)),
        factors(space.take<AnchorFactors<T>>(args.relations.anchors)) {
    if (splits > 1) partial = space.take<T>(splits * args.relations.anchors * args.size);
    workspace = space.used();
  }
};

template <class T>
void launch_prepare_anchors(const AnchorSumsArgs<T>& args, const AnchorSumsGradient<T>& gradient,
                            AnchorFactors<T>* factors, void* stream) {
  PairSumsGradient<T> sums{};
  sums.sums = gradient.sums;
  sums.grad_sums = gradient.grad_sums;
  launch("anchor_sums_backward, anchors' terms", prepare_anchors<T>,
         dim3(unsigned(ceil_div(args.relations.anchors, kTermThreads))), kTermThreads, stream, args.relations.anchors,
         args.rho, sums, factors);
}

template <class T>
void warp_backward(AnchorSumsArgs<T> args, const AnchorSumsGradient<T>& gradient, void* workspace, void* stream) {
  const int64_t m = args.relations.anchors;
  const WarpBackwardPlan<T> plan(args, Workspace(workspace));
  const DeviceRho<T> rho(args.rho);
  const bool aligned = has_aligned_rows(args) && uintptr_t(gradient.mixed) % (kRun<T> * sizeof(T)) == 0;
  args = with_inverse_norms(args, plan.inverse, stream);
  if (m > 0) launch_prepare_anchors(args, gradient, plan.factors, stream);
  with_element<T>(args.element, [&](auto element) {
    using E = decltype(element);
    const auto mix_blocks = unsigned(ceil_div(args.mixes.count, kAnchorWarps * kOwnMixes));
    launch("anchor_sums_backward, mixes", mixed_gradients<T, E>, dim3(mix_blocks, unsigned(plan.slices)),
           kAnchorWarps * kWarp, stream, args, rho, aligned, plan.factors, gradient);
    if (m == 0) return;
    launch("anchor_sums_backward, anchors", anchor_gradients<T, E>,
           dim3(unsigned(anchor_blocks(args, kOwnAnchors)), unsigned(plan.splits * plan.slices)), kAnchorWarps * kWarp,
           stream, args, rho, aligned, plan.splits, plan.factors, plan.partial, gradient.anchors);
  });
  if (plan.partial != nullptr && m > 0)
    launch("anchor_sums_backward, splits", add_splits<T>, dim3(unsigned(ceil_div(m * args.size, kTermThreads))),
           kTermThreads, stream, m * args.size, plan.splits, plan.partial, gradient.anchors);
}

}  // namespace metrix::cuda
