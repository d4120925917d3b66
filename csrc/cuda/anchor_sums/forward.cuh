// anchor_sums by warps, forward, for every type. A block of threads takes up to 8 anchors a of one class and a share of
// the mixes that some of them use, a warp 4 of those mixes q at a time: 32 terms, one a lane.
//
//   index       the anchors of a block, and the mixes that they may use                  class_groups.cuh, AnchorGroup
//   for every 4 mixes of the warp:
//     index     whether anchor a uses mix q, and with which label                        class_groups.cuh, AnchorTerm
//     load      rows x_a and z_q, 4 floats a lane at a time                              inner_products.cuh, load_run()
//     product   <z_q, x_a>: 32 sums over d by the warp, of which each lane gets one      inner_products.cuh
//     mix       z_q comes mixed; s = <z_q, x_a> / |z_q|                                  here
//     exponent, accumulate    the term as a sum of its own, merged into the lane's       rho/exponential.cuh
//   merge       lanes of one anchor, warps (here), splits of the mixes (merge_anchor_sums)
//
//     lane            0    1   ...   7     8   ...  15    16  ...  23    24  ...  31
//     anchor          a0   a1        a7    a0       a7    a0       a7    a0       a7
//     mix             q0   q0        q0    q1       q1    q2       q2    q3       q3
#pragma once

#include "class_groups.cuh"
#include "cuda/rho/families.cuh"
#include "inverse_norms.cuh"

namespace metrix::cuda {

// 32 products, a run of 4 elements of each mix and one of an anchor: 52 registers of float before any address.
constexpr int kSummedAnchors = 8, kSummedMixes = kWarp / kSummedAnchors;

template <class Family, class T>
using SumOf = typename Family::template Sum<T, 1, Sides::kBoth>;

// A term, no terms, and two sums merged, of whichever family. What is not finite comes out as NaN, as everywhere.
template <class T>
__device__ __forceinline__ PartialSum<T> partial_of_term(FamilyId exponential, const DeviceRho<T>& rho, int side, T s,
                                                         T weight) {
  if (!(s - s == T(0))) return {T(0), kNaN<T>};
  return in_family(exponential, [&](auto family) { return SumOf<decltype(family), T>::of_term(rho, side, s, weight); });
}

template <class T>
__device__ __forceinline__ PartialSum<T> empty_partial(FamilyId exponential) {
  return in_family(exponential, [](auto family) { return SumOf<decltype(family), T>::empty(); });
}

template <class T>
__device__ __forceinline__ PartialSum<T> merge_partials(FamilyId exponential, const PartialSum<T>& x,
                                                        const PartialSum<T>& y) {
  return in_family(exponential, [&](auto family) { return SumOf<decltype(family), T>::merge(x, y); });
}

// blockIdx.y is the split of the mixes.
template <class T, class E>
__global__ void __launch_bounds__(kAnchorWarps* kWarp)
    sum_anchors(const AnchorSumsArgs<T> args, const DeviceRho<T> rho, bool aligned,
                PartialSum<T>* partial) {  // [splits, m, 2]
  __shared__ PartialSum<T> of_warps[kAnchorWarps][kSummedAnchors][2];
  AnchorGroup<kSummedAnchors> group;
  if (!group.load(args)) return;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const FamilyId exponential = args.rho.exponential;
  const LaneRows<T> anchors{args.anchors, args.size, group.anchor};

  PartialSum<T> sum[2] = {empty_partial<T>(exponential), empty_partial<T>(exponential)};
  const int64_t step = int64_t(gridDim.y) * kAnchorWarps * kSummedMixes;
  for (int64_t use = (int64_t(blockIdx.y) * kAnchorWarps + warp) * kSummedMixes; use < group.uses; use += step) {
    const int64_t mix = group.mix(args, use + lane / kSummedAnchors);
    const AnchorTerm<T> term(args, group.anchor, mix);
    if (__ballot_sync(kAllLanes, term.is_used) == 0) continue;
    const LaneRows<E> mixes{static_cast<const E*>(args.mixed), args.size, mix};
    const T product = inner_product<kSummedAnchors>(mixes, anchors, aligned);
    if (!term.is_used) continue;
    const T s = product * inverse_norm(args, mix);
    const T argument = less_margin(s, rho.margin_range, term.weight[0]);
    const bool is_finite = s - s == T(0);
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side)
      if (term.weight[side] != T(0) || !is_finite)
        sum[side] = merge_partials(exponential, sum[side],
                                   partial_of_term(exponential, rho, side, argument, term.weight[side]));
  }
  METRIX_UNROLL
  for (int side = 0; side < 2; ++side) {
    METRIX_UNROLL
    for (int lanes = kSummedAnchors; lanes < kWarp; lanes *= 2) {
      const PartialSum<T> other{__shfl_xor_sync(kAllLanes, sum[side].shift, lanes),
                                __shfl_xor_sync(kAllLanes, sum[side].sum, lanes)};
      sum[side] = merge_partials(exponential, sum[side], other);
    }
    if (lane < kSummedAnchors) of_warps[warp][lane][side] = sum[side];
  }
  __syncthreads();
  if (threadIdx.x >= 2 * kSummedAnchors) return;
  // Thread a and thread kSummedAnchors + a have the sides of anchor a.
  const int a = int(threadIdx.x) % kSummedAnchors, side = int(threadIdx.x) / kSummedAnchors;
  PartialSum<T> total = empty_partial<T>(exponential);
  for (int w = 0; w < kAnchorWarps; ++w) total = merge_partials(exponential, total, of_warps[w][a][side]);
  if (group.anchor >= 0) partial[(blockIdx.y * args.relations.anchors + group.anchor) * 2 + side] = total;
}

constexpr int kMergeThreads = 128;

// Adds up the splits in order.
template <class T>
__global__ void __launch_bounds__(kMergeThreads)
    merge_anchor_sums(int64_t anchors, int64_t splits,
                      const PartialSum<T>* __restrict__ partial,  // [splits, m, 2]
                      const Rho rho, const AnchorSumsOutput<T> output) {
  const int64_t k = int64_t(blockIdx.x) * kMergeThreads + threadIdx.x;
  if (k >= 2 * anchors) return;
  PartialSum<T> sum = empty_partial<T>(rho.exponential);
  for (int64_t split = 0; split < splits; ++split)
    sum = merge_partials(rho.exponential, sum, partial[split * 2 * anchors + k]);
  in_family(rho.exponential, [&](auto family) {
    using Sum = SumOf<decltype(family), T>;
    T rest;
    Sum::write(sum, k % 2 == 0 ? rho.positive : rho.negative, output.sums[k], rest);
    output.nonzero[k] = Sum::kCountsTerms ? rest : T(0);
  });
}

template <class T>
struct WarpForwardPlan {
  int64_t splits, workspace;
  T* inverse;              // [p]
  PartialSum<T>* partial;  // [splits, m, 2]

  WarpForwardPlan(const AnchorSumsArgs<T>& args, Workspace space)
      : splits(anchor_splits(args, 2 * int64_t(sizeof(PartialSum<T>)))),
        inverse(space.take<T>(args.mixes.count)),
        partial(space.take<PartialSum<T>>(splits * args.relations.anchors * 2)) {
    workspace = space.used();
  }
};

template <class T>
void warp_forward(AnchorSumsArgs<T> args, const AnchorSumsOutput<T>& output, void* workspace, void* stream) {
  const int64_t m = args.relations.anchors;
  const WarpForwardPlan<T> plan(args, Workspace(workspace));
  args = with_inverse_norms(args, plan.inverse, stream);
  with_element<T>(args.element, [&](auto element) {
    launch("anchor_sums", sum_anchors<T, decltype(element)>,
           dim3(unsigned(anchor_blocks(args, kSummedAnchors)), unsigned(plan.splits)), kAnchorWarps * kWarp, stream,
           args, DeviceRho<T>(args.rho), has_aligned_rows(args), plan.partial);
  });
  launch("anchor_sums, merge", merge_anchor_sums<T>, dim3(unsigned(ceil_div(2 * m, kMergeThreads))), kMergeThreads,
         stream, m, plan.splits, plan.partial, args.rho, output);
}

}  // namespace metrix::cuda
