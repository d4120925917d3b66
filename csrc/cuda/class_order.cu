// Sorts by counting: the place of an example is the number of those before it. One launch where a sort takes several;
// quadratic in the examples, with a constant that vanishes beside their similarities.
#include "../class_order.h"
#include "launch.h"

namespace metrix::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    class_order_kernel(int64_t examples, const int64_t* __restrict__ labels, const ClassOrder output) {
  __shared__ int64_t tile[kThreads];
  const int64_t me = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t mine = me < examples ? labels[me] : 0;
  int64_t below = 0, equal = 0, equal_before = 0;
  for (int64_t from = 0; from < examples; from += kThreads) {
    __syncthreads();
    if (from + threadIdx.x < examples) tile[threadIdx.x] = labels[from + threadIdx.x];
    __syncthreads();
    const int size = int(examples - from < kThreads ? examples - from : kThreads);
    int tile_below = 0, tile_equal = 0, tile_before = 0;
    for (int k = 0; k < size; ++k) {
      tile_below += tile[k] < mine;
      tile_equal += tile[k] == mine;
      tile_before += tile[k] == mine && from + k < me;
    }
    below += tile_below;
    equal += tile_equal;
    equal_before += tile_before;
  }
  if (me >= examples) return;
  const int64_t place = below + equal_before;
  output.order[place] = me;
  output.positives[2 * place] = below;
  output.positives[2 * place + 1] = below + equal;
  output.place[me] = me;
}

}  // namespace

void class_order(int64_t examples, const int64_t* labels, const ClassOrder& output, int device, void* stream) {
  if (examples == 0) return;
  const DeviceGuard guard(device);
  launch("class_order", class_order_kernel, dim3(unsigned((examples + kThreads - 1) / kThreads)), kThreads, stream,
         examples, labels, output);
}

}  // namespace metrix::cuda
