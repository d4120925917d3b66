// Inner products of mixed embeddings z_q and anchors x_a by a warp: 32 of them at a time, of a few rows each, and every
// lane ends up with one. d is walked in runs of 4 floats a lane (double: 2), 128 elements at a time.
//
//   lane            0        1        2    ...   31
//   elements       0-3      4-7     8-11       124-127    of 4 mixes and 8 anchors: 12 loads of 16 bytes or 8
//   products       32 partial sums in the registers of every lane, one for each (mix, anchor)
//   warp_sums()    lane l gets the whole product of mix l / 8 and anchor l % 8
#pragma once

#include "anchor_sums.h"
#include "cuda/common/elements.cuh"
#include "cuda/common/warp.cuh"

namespace metrix::cuda {

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
  return warp_sums(product);
}

// Whether rows of this many elements can be loaded in runs.
template <class T>
bool has_aligned_rows(const AnchorSumsArgs<T>& args) {
  const uintptr_t element = args.element == Element::kDouble ? 8 : args.element == Element::kFloat ? 4 : 2;
  return args.size % kRun<T> == 0 && uintptr_t(args.mixed) % (kRun<T> * element) == 0 &&
         uintptr_t(args.anchors) % (kRun<T> * sizeof(T)) == 0;
}

}  // namespace metrix::cuda
