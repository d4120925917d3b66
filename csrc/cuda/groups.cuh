// Anchors of one class brought together, for the kernels that compute what they share once.
#pragma once

#include "launch.h"
#include "plan.h"
#include "relations.cuh"

namespace metrix::cuda {

constexpr int kGroupThreads = 256;

// Sorts by counting: the place of an anchor is the number of those before it. Quadratic in the anchors, but with a
// constant that vanishes beside the sums of as many anchors over pairs.
static __global__ void __launch_bounds__(kGroupThreads)
    group_anchors(const int64_t* __restrict__ positives, int64_t anchors, Groups groups) {
  __shared__ int64_t begins[kGroupThreads], ends[kGroupThreads];
  const int64_t me = int64_t(blockIdx.x) * kGroupThreads + threadIdx.x;
  const int64_t my_begin = me < anchors ? positives[2 * me] : 0, my_end = me < anchors ? positives[2 * me + 1] : 0;
  int before = 0, equal_before = 0;
  for (int64_t tile = 0; tile < anchors; tile += kGroupThreads) {
    __syncthreads();
    if (tile + threadIdx.x < anchors) {
      begins[threadIdx.x] = positives[2 * (tile + threadIdx.x)];
      ends[threadIdx.x] = positives[2 * (tile + threadIdx.x) + 1];
    }
    __syncthreads();
    const int size = int(anchors - tile < kGroupThreads ? anchors - tile : kGroupThreads);
    for (int k = 0; k < size; ++k) {
      const bool same = begins[k] == my_begin && ends[k] == my_end;
      before += begins[k] < my_begin || (begins[k] == my_begin && ends[k] < my_end);
      equal_before += same && tile + k < me;
    }
  }
  if (me < anchors) {
    groups.order[before + equal_before] = int(me);
    groups.begin[before + equal_before] = before;
  }
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
  launch("group_anchors", group_anchors, dim3(unsigned(ceil_div(args.anchors, kGroupThreads))), kGroupThreads, stream,
         args.positives, args.anchors, groups);
}

}  // namespace metrix::cuda
