// What forward and backward of anchor_sums share: groups of anchors that use the same mixes, similarities of a few
// mixes and anchors by a warp, the term of one mix and anchor.
#pragma once

#include "anchor_sums.h"
#include "cuda/common/elements.cuh"
#include "cuda/sums/sums.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kAnchorWarps = 1;
#else
constexpr int kAnchorWarps = 4;
#endif

// ---- similarities ---------------------------------------------------------------------------------------------

// Elements that a lane loads at once, of T or of what is computed in T.
template <class T>
constexpr int kRun = sizeof(T) == 8 ? 2 : 4;

template <class E>
struct alignas(kRun<E> * sizeof(E)) Run {
  E element[kRun<E>];
};

// x[at] to x[at + kRun<T> - 1] as far as they are below size, 0 beyond.
template <class T, class E>
__device__ __forceinline__ void load_run(const E* x, int64_t at, int64_t size, bool aligned, T (&run)[kRun<T>]) {
  if (aligned) {
    const Run<E> loaded = *reinterpret_cast<const Run<E>*>(x + at);
    METRIX_UNROLL
    for (int e = 0; e < kRun<T>; ++e) run[e] = to_number(loaded.element[e]);
  } else {
    METRIX_UNROLL
    for (int e = 0; e < kRun<T>; ++e) run[e] = at + e < size ? to_number(x[at + e]) : T(0);
  }
}

// The same the other way, rounded to E.
template <class T, class E>
__device__ __forceinline__ void store_run(E* x, int64_t at, int64_t size, bool aligned, const T (&run)[kRun<T>]) {
  Run<E> rounded;
  METRIX_UNROLL
  for (int e = 0; e < kRun<T>; ++e) round_to(run[e], rounded.element[e]);
  if (aligned) {
    if (at < size) *reinterpret_cast<Run<E>*>(x + at) = rounded;
  } else {
    METRIX_UNROLL
    for (int e = 0; e < kRun<T>; ++e)
      if (at + e < size) x[at + e] = rounded.element[e];
  }
}

// Adds over the lanes of a warp so that lane l ends with the total of value l: half of the values change hands in every
// step.
template <class T>
__device__ __forceinline__ T transposing_warp_sum(T (&value)[kWarp]) {
  METRIX_UNROLL
  for (int step = 1; step <= 5; ++step) {
    const int lanes = kWarp >> step;
    const bool upper = threadIdx.x & unsigned(lanes);
    METRIX_UNROLL
    for (int k = 0; k < kWarp / 2; ++k) {
      if (k >= lanes) continue;
      const T kept = upper ? value[k + lanes] : value[k], sent = upper ? value[k] : value[k + lanes];
      value[k] = kept + __shfl_xor_sync(kAllLanes, sent, lanes);
    }
  }
  return value[0];
}

// Rows of a matrix, one that each lane of a warp knows of; a lane that has none has -1.
template <class E>
struct LaneRows {
  const E* rows;
  int64_t size;
  int64_t index;

  // Some row where the lane has none.
  __device__ __forceinline__ const E* of_lane(int lane) const {
    const int64_t k = __shfl_sync(kAllLanes, index, lane);
    return rows + (k < 0 ? 0 : k) * size;
  }
};

// The inner product of its mix and its anchor in each lane of a warp: those of lane l are mix l / kAnchors and anchor
// l % kAnchors of the warp.
template <int kAnchors, class T, class E>
__device__ __forceinline__ T inner_product(const LaneRows<E>& mixes, const LaneRows<T>& anchors, bool aligned) {
  constexpr int kMixes = kWarp / kAnchors;
  const E* mix[kMixes];
  const T* anchor[kAnchors];
  METRIX_UNROLL
  for (int q = 0; q < kMixes; ++q) mix[q] = mixes.of_lane(q * kAnchors);
  METRIX_UNROLL
  for (int a = 0; a < kAnchors; ++a) anchor[a] = anchors.of_lane(a);
  T product[kWarp] = {};
#pragma unroll 1
  for (int64_t at = int64_t(threadIdx.x) % kWarp * kRun<T>; at < mixes.size; at += kWarp * kRun<T>) {
    T of_mix[kMixes][kRun<T>];
    METRIX_UNROLL
    for (int q = 0; q < kMixes; ++q) load_run(mix[q], at, mixes.size, aligned, of_mix[q]);
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a) {
      T of_anchor[kRun<T>];
      load_run(anchor[a], at, mixes.size, aligned, of_anchor);
      METRIX_UNROLL
      for (int q = 0; q < kMixes; ++q) {
        METRIX_UNROLL
        for (int e = 0; e < kRun<T>; ++e)
          product[q * kAnchors + a] = fused(of_mix[q][e], of_anchor[e], product[q * kAnchors + a]);
      }
    }
  }
  return transposing_warp_sum(product);
}

// Whether rows of this many elements can be loaded in runs.
template <class T>
bool has_aligned_rows(const AnchorSumsArgs<T>& args) {
  const uintptr_t element = args.element == Element::kDouble ? 8 : args.element == Element::kFloat ? 4 : 2;
  return args.size % kRun<T> == 0 && uintptr_t(args.mixed) % (kRun<T> * element) == 0 &&
         uintptr_t(args.anchors) % (kRun<T> * sizeof(T)) == 0;
}

// ---- terms ----------------------------------------------------------------------------------------------------

// One mix as one anchor sees it.
template <class T>
struct AnchorTerm {
  bool is_used;
  T weight[2];

  // An anchor or mix of -1 has no term.
  __device__ __forceinline__ AnchorTerm(const AnchorSumsArgs<T>& args, int64_t anchor, int64_t mix) {
    T label = T(-1);
    if (anchor >= 0 && mix >= 0)
      label = mixed_label(args.relations, args.pairs, args.both_orders, anchor, args.mixes.first[mix],
                          args.mixes.second[mix], args.mixes.lambda[mix]);
    is_used = label != T(-1);
    weight[0] = is_used ? label : T(0);
    weight[1] = is_used ? T(1) - label : T(0);
  }
};

template <class T>
__device__ __forceinline__ T inverse_norm(const AnchorSumsArgs<T>& args, int64_t mix) {
  return args.inverse_norms == nullptr ? T(1) : args.inverse_norms[mix];
}

// ---- groups of anchors ----------------------------------------------------------------------------------------

// Up to kSize anchors of one class, or any where no lists of them are given, and the mixes that some of them may use.
template <int kSize>
struct AnchorGroup {
  int64_t anchor;      // that of the lane modulo kSize, or -1
  int64_t begin, end;  // examples of the class
  int64_t first_use, uses;
  bool by_class;

  // The group of a block; false if the one of another block has this block's place.
  template <class T>
  __device__ __forceinline__ bool load(const AnchorSumsArgs<T>& args) {
    by_class = args.anchor_order != nullptr;
    const int a = int(threadIdx.x) % kSize;
    const int64_t* const positives = args.relations.positives;
    if (!by_class) {
      anchor = int64_t(blockIdx.x) * kSize + a;
      if (anchor >= args.relations.anchors) anchor = -1;
      begin = end = first_use = 0;
      uses = args.mixes.count;
      return true;
    }
    const int64_t place = blockIdx.x;
    begin = positives[2 * args.anchor_order[place]];
    // Anchors without positives may be among those of the class that begins where theirs would.
    const bool has_class = begin < args.mixes.examples;
    const int64_t first = has_class ? args.anchors_of[2 * begin] : place;
    const int64_t last = has_class ? args.anchors_of[2 * begin + 1] : place + 1;
    if ((place - first) % kSize != 0) return false;
    anchor = place + a < last ? args.anchor_order[place + a] : -1;
    end = anchor < 0 ? begin : positives[2 * anchor + 1];
    METRIX_UNROLL
    for (int lanes = kSize / 2; lanes > 0; lanes /= 2) {
      const int64_t other = __shfl_xor_sync(kAllLanes, end, lanes);
      end = other > end ? other : end;
    }
    first_use = args.mixes.begin[begin];
    uses = args.mixes.begin[end] - first_use;
    return true;
  }

  // The mix of a use, each mix once; -1 past the end.
  template <class T>
  __device__ __forceinline__ int64_t mix(const AnchorSumsArgs<T>& args, int64_t use) const {
    if (use >= uses) return -1;
    if (!by_class) return use;
    const int64_t which = args.mixes.uses[first_use + use];
    if (which < args.mixes.count) return which;
    const int64_t first = args.mixes.first[which - args.mixes.count];
    return begin <= first && first < end ? -1 : which - args.mixes.count;
  }
};

}  // namespace metrix::cuda
