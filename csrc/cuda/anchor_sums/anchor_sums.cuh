// anchor_sums, forward. A block takes up to 8 anchors of a class and a share of their mixes, a warp 4 of those at a
// time: 32 inner products, one of which every lane ends up with and adds to its sums.
#pragma once

#include "anchor_groups.cuh"
#include "anchor_plan.h"
#include "cuda/common/launch.h"

namespace metrix::cuda {

constexpr int kSummedAnchors = 8, kSummedMixes = kWarp / kSummedAnchors;

// A term of either family as a sum of its own. What is not finite comes out as NaN, as everywhere.
template <class T>
__device__ __forceinline__ Cell<T> term_cell(bool exponential, const Scales<T>& rho, int side, T s, T weight) {
  if (!(s - s == T(0))) return {T(0), kNaN<T>};
  if (exponential) return {rho.exponent[side] * s, weight};
  const T term = weight * linear_rho(s, rho.scale[side], rho.shift[side], rho.floor[side]);
  return {term != T(0) ? T(1) : T(0), term};
}

template <class T>
__device__ __forceinline__ Cell<T> empty_cell(bool exponential) {
  return exponential ? ExponentialSums<T, 1, Sides::kBoth>::nothing() : LinearSums<T, 1, Sides::kBoth>::nothing();
}

template <class T>
__device__ __forceinline__ Cell<T> merge_cells(bool exponential, const Cell<T>& x, const Cell<T>& y) {
  return exponential ? ExponentialSums<T, 1, Sides::kBoth>::merge(x, y) : LinearSums<T, 1, Sides::kBoth>::merge(x, y);
}

// Partial sums lie by split, anchor and side.
template <class T, class E>
__global__ void __launch_bounds__(kAnchorWarps* kWarp)
    sum_anchors(const AnchorSumsArgs<T> args, const Scales<T> rho, bool aligned, Cell<T>* partial) {
  __shared__ Cell<T> warp_cells[kAnchorWarps][kSummedAnchors][2];
  AnchorGroup<kSummedAnchors> group;
  if (!group.load(args)) return;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const bool exponential = args.rho.exponential;
  const LaneRows<T> anchors{args.anchors, args.size, group.anchor};

  Cell<T> cell[2] = {empty_cell<T>(exponential), empty_cell<T>(exponential)};
  const int64_t step = int64_t(gridDim.y) * kAnchorWarps * kSummedMixes;
  for (int64_t use = (int64_t(blockIdx.y) * kAnchorWarps + warp) * kSummedMixes; use < group.uses; use += step) {
    const int64_t mix = group.mix(args, use + lane / kSummedAnchors);
    const AnchorTerm<T> term(args, group.anchor, mix);
    if (__ballot_sync(kAllLanes, term.is_used) == 0) continue;
    const LaneRows<E> mixes{static_cast<const E*>(args.mixed), args.size, mix};
    const T product = inner_product<kSummedAnchors>(mixes, anchors, aligned);
    if (!term.is_used) continue;
    const T s = product * inverse_norm(args, mix);
    METRIX_UNROLL
    for (int side = 0; side < 2; ++side)
      if (term.weight[side] != T(0))
        cell[side] = merge_cells(exponential, cell[side], term_cell(exponential, rho, side, s, term.weight[side]));
  }
  METRIX_UNROLL
  for (int side = 0; side < 2; ++side) {
    METRIX_UNROLL
    for (int lanes = kSummedAnchors; lanes < kWarp; lanes *= 2) {
      const Cell<T> other{__shfl_xor_sync(kAllLanes, cell[side].shift, lanes),
                          __shfl_xor_sync(kAllLanes, cell[side].sum, lanes)};
      cell[side] = merge_cells(exponential, cell[side], other);
    }
    if (lane < kSummedAnchors) warp_cells[warp][lane][side] = cell[side];
  }
  __syncthreads();
  if (threadIdx.x >= 2 * kSummedAnchors) return;
  // Thread a and thread kSummedAnchors + a have the sides of anchor a.
  const int a = int(threadIdx.x) % kSummedAnchors, side = int(threadIdx.x) / kSummedAnchors;
  Cell<T> total = empty_cell<T>(exponential);
  for (int w = 0; w < kAnchorWarps; ++w) total = merge_cells(exponential, total, warp_cells[w][a][side]);
  if (group.anchor >= 0) partial[(blockIdx.y * args.relations.anchors + group.anchor) * 2 + side] = total;
}

constexpr int kMergeThreads = 128;

// Adds up the splits in order.
template <class T>
__global__ void __launch_bounds__(kMergeThreads)
    merge_anchor_sums(int64_t anchors, int64_t splits, const Cell<T>* __restrict__ partial, const Rho rho,
                      const AnchorSumsOutput<T> output) {
  const int64_t k = int64_t(blockIdx.x) * kMergeThreads + threadIdx.x;
  if (k >= 2 * anchors) return;
  Cell<T> cell = empty_cell<T>(rho.exponential);
  for (int64_t split = 0; split < splits; ++split)
    cell = merge_cells(rho.exponential, cell, partial[split * 2 * anchors + k]);
  T rest;
  if (rho.exponential) {
    ExponentialSums<T, 1, Sides::kBoth>::write(cell, k % 2 == 0 ? rho.positive : rho.negative, output.sums[k], rest);
    output.nonzero[k] = T(0);
  } else {
    LinearSums<T, 1, Sides::kBoth>::write(cell, rho.positive, output.sums[k], output.nonzero[k]);
  }
}

template <class T>
int64_t anchor_sums_workspace(const AnchorSumsArgs<T>& args) {
  return 2 * args.relations.anchors * anchor_splits(args, kSummedAnchors) * int64_t(sizeof(Cell<T>));
}

template <class T>
void anchor_sums(const AnchorSumsArgs<T>& args, const AnchorSumsOutput<T>& output, void* workspace, int device,
                 void* stream) {
  const int64_t m = args.relations.anchors;
  if (m == 0) return;
  const DeviceGuard guard(device);
  const int64_t splits = anchor_splits(args, kSummedAnchors);
  auto* const partial = static_cast<Cell<T>*>(workspace);
  with_element<T>(args.element, [&](auto element) {
    launch("anchor_sums", sum_anchors<T, decltype(element)>,
           dim3(unsigned(anchor_blocks(args, kSummedAnchors)), unsigned(splits)), kAnchorWarps * kWarp, stream, args,
           Scales<T>(args.rho), has_aligned_rows(args), partial);
  });
  launch("anchor_sums, merge", merge_anchor_sums<T>, dim3(unsigned(ceil_div(2 * m, kMergeThreads))), kMergeThreads,
         stream, m, splits, partial, args.rho, output);
}

}  // namespace metrix::cuda
