// Anchors of one class brought together: they have the same positives and negatives, so a block of threads takes a few
// of them and computes what they share, all of a pair (i, j) but its similarities, once.
#pragma once

#include "cuda/common/counting_sort.cuh"
#include "cuda/common/warp.cuh"
#include "plan.h"

namespace metrix::cuda {

// The anchors in an order in which those with the same range of positives are neighbours, and for every place in that
// order where its group begins. Anchors that are the examples are in such an order, and the ranges say where a group
// begins. Only null pointers: every anchor for itself, as with a mask.
struct ClassGroups {
  int* order;             // [m] by place: the anchor
  int* begin;             // [m] by place: the first place of its group
  const int64_t* ranges;  // [m, 2] PairSumsArgs::positives, in place of the other two

  __device__ __forceinline__ int anchor(int place) const { return order == nullptr ? place : order[place]; }
  __device__ __forceinline__ int group(int place) const {
    if (ranges != nullptr) return int(ranges[2 * place]);
    return begin == nullptr ? place : begin[place];
  }
  // Whether a block of anchors begins here, when groups are cut into blocks of a size.
  __device__ __forceinline__ bool begins_block(int place, int size) const { return (place - group(place)) % size == 0; }
};

// Anchors that a block of threads takes at once. More would need more registers than a thread has: each takes 4 for its
// sums and shifts on two sides, and one for its similarity to the thread's column (in double precision twice as many).
template <class T>
constexpr int kAnchorsPerBlock = sizeof(T) == 4 ? 8 : 4;

// In shared memory: the anchors that a block of threads has at work.
template <int kAnchors>
struct AnchorBlock {
  int anchor[kAnchors];         // -1 where the group ends before the block does
  int self[kAnchors];           // the anchor's own column, or -1
  int is_not_finite[kAnchors];  // what an anchor would mix is infinite or NaN: if it has terms, its sums are NaN

  // The anchors from a place on, as far as its group goes. All threads of the block call it.
  template <class T>
  __device__ __forceinline__ void load(const PairSumsArgs<T>& args, const ClassGroups& groups, int place) {
    __syncthreads();  // nobody reads the ones before any more
    if (threadIdx.x < kAnchors) {
      const int other = place + int(threadIdx.x);
      const bool here = other == place || (other < args.anchors && groups.group(other) == groups.group(place));
      anchor[threadIdx.x] = here ? groups.anchor(other) : -1;
      self[threadIdx.x] = here ? int(args.self[groups.anchor(other)]) : -1;
      is_not_finite[threadIdx.x] = 0;
    }
    __syncthreads();
  }

  // Bits of the anchors that go without an example although it is one for the group: the anchor itself, and those that
  // are missing.
  __device__ __forceinline__ unsigned skip(int example) const {
    unsigned bits = 0;
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a) bits |= unsigned(anchor[a] < 0 || self[a] == example) << a;
    return bits;
  }
};

struct ClassRange {
  int64_t begin, end;

  __device__ __forceinline__ bool operator==(const ClassRange& other) const {
    return begin == other.begin && end == other.end;
  }
  __device__ __forceinline__ bool operator<(const ClassRange& other) const {
    return begin < other.begin || (begin == other.begin && end < other.end);
  }
};

static __global__ void __launch_bounds__(kSortThreads)
    group_anchors(const int64_t* __restrict__ positives /* [m, 2] */, int64_t anchors, ClassGroups groups) {
  const int64_t me = int64_t(blockIdx.x) * kSortThreads + threadIdx.x;
  const Rank rank = rank_of<ClassRange>(
      me, anchors, [positives](int64_t a) { return ClassRange{positives[2 * a], positives[2 * a + 1]}; });
  if (me >= anchors) return;
  groups.order[rank.place()] = int(me);
  groups.begin[rank.place()] = int(rank.below);
}

// Where the groups will be: nowhere for anchors that lie in order, or with a mask.
template <class T>
ClassGroups groups_of(const PairSumsArgs<T>& args, Workspace& space) {
  if (args.mask != nullptr) return {};
  if (args.anchors_in_order) return {nullptr, nullptr, args.positives};
  return {space.take<int>(args.anchors), space.take<int>(args.anchors), nullptr};
}

template <class T>
void group(const PairSumsArgs<T>& args, const ClassGroups& groups, void* stream) {
  if (groups.order == nullptr || args.anchors == 0) return;
  launch_sort("group_anchors", group_anchors, args.anchors, stream, args.positives, args.anchors, groups);
}

}  // namespace metrix::cuda
