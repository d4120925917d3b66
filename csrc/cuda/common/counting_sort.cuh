// Sorts by counting: the place of an element is the number of those before it. One launch where a sort takes several;
// quadratic in the elements, with a constant that vanishes beside the similarities of as many examples.
#pragma once

#include "launch.h"

namespace metrix::cuda {

constexpr int kSortThreads = 256;

struct Rank {
  int64_t below, equal, equal_before;

  __device__ __forceinline__ int64_t place() const { return below + equal_before; }
};

// Of the thread's element among all, whose keys key_of gives; a thread past the end takes part and has no rank.
template <class Key, class KeyOf>
__device__ __forceinline__ Rank rank_of(int64_t me, int64_t count, const KeyOf& key_of) {
  __shared__ Key tile[kSortThreads];
  const Key mine = key_of(me < count ? me : count - 1);
  Rank rank{};
  for (int64_t from = 0; from < count; from += kSortThreads) {
    __syncthreads();
    if (from + threadIdx.x < count) tile[threadIdx.x] = key_of(from + threadIdx.x);
    __syncthreads();
    const int size = int(count - from < kSortThreads ? count - from : kSortThreads);
    int below = 0, equal = 0, equal_before = 0;
    for (int k = 0; k < size; ++k) {
      below += tile[k] < mine;
      equal += tile[k] == mine;
      equal_before += tile[k] == mine && from + k < me;
    }
    rank.below += below;
    rank.equal += equal;
    rank.equal_before += equal_before;
  }
  return rank;
}

// An element a thread.
template <class... Parameters, class... Arguments>
void launch_sort(const char* name, void (*kernel)(Parameters...), int64_t count, void* stream,
                 const Arguments&... arguments) {
  launch(name, kernel, dim3(unsigned(ceil_div(count, kSortThreads))), kSortThreads, stream, arguments...);
}

}  // namespace metrix::cuda
