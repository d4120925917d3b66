// Anchors of one class brought together, for the kernels that compute what they share once.
#pragma once

#include "cuda/common/counting_sort.cuh"
#include "cuda/common/plan.h"
#include "relations.cuh"

namespace metrix::cuda {

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
    group_anchors(const int64_t* __restrict__ positives, int64_t anchors, Groups groups) {
  const int64_t me = int64_t(blockIdx.x) * kSortThreads + threadIdx.x;
  const Rank rank = rank_of<ClassRange>(
      me, anchors, [positives](int64_t a) { return ClassRange{positives[2 * a], positives[2 * a + 1]}; });
  if (me >= anchors) return;
  groups.order[rank.place()] = int(me);
  groups.begin[rank.place()] = int(rank.below);
}

// Where the groups will be: nowhere for anchors that lie in order, or with a mask.
template <class T>
Groups groups_of(const PairSumsArgs<T>& args, Workspace& space) {
  if (args.mask != nullptr) return {};
  if (args.anchors_in_order) return {nullptr, nullptr, args.positives};
  return {space.take<int>(args.anchors), space.take<int>(args.anchors), nullptr};
}

template <class T>
void group(const PairSumsArgs<T>& args, const Groups& groups, void* stream) {
  if (groups.order == nullptr || args.anchors == 0) return;
  launch_sort("group_anchors", group_anchors, args.anchors, stream, args.positives, args.anchors, groups);
}

}  // namespace metrix::cuda
