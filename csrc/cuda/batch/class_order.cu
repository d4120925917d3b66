// class_order: examples sorted by class. A thread takes an example and counts how many labels are below its own, or
// equal and before it: that is its place, and below to below + equal is the range of its class
// (common/counting_sort.cuh).
#include "class_order.h"
#include "cuda/common/counting_sort.cuh"

namespace metrix::cuda {
namespace {

__global__ void __launch_bounds__(kSortThreads)
    class_order_kernel(int64_t examples, const int64_t* __restrict__ labels, const ClassOrder output) {
  const int64_t me = int64_t(blockIdx.x) * kSortThreads + threadIdx.x;
  const Rank rank = rank_of<int64_t>(me, examples, [labels](int64_t example) { return labels[example]; });
  if (me >= examples) return;
  output.order[rank.place()] = me;
  output.positives[2 * rank.place()] = rank.below;
  output.positives[2 * rank.place() + 1] = rank.below + rank.equal;
  output.place[me] = me;
}

}  // namespace

void class_order(int64_t examples, const int64_t* labels, const ClassOrder& output, int device, void* stream) {
  if (examples == 0) return;
  const DeviceGuard guard(device);
  launch_sort("class_order", class_order_kernel, examples, stream, examples, labels, output);
}

}  // namespace metrix::cuda
