// mean_loss: from the two sums of every anchor to the loss. Forward one block adds up all anchors, in an order that
// follows from their number; backward a thread takes one.
//   load        the sums of an anchor, clean and mixed
//   loss        tau(sigma(positive) + sigma(negative)), or its derivatives by the sums     mean_loss.h, anchor_loss()
//   merge       thread by thread, lanes by exchange, warps through shared memory; divided by the anchors
#include "cuda/common/launch.h"
#include "cuda/common/warp.cuh"
#include "mean_loss.h"

namespace metrix::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__device__ __forceinline__ AnchorLoss loss_of(const MeanLossArgs& args, const T* sums, int64_t anchor) {
  return anchor_loss(args, double(sums[2 * anchor]), double(sums[2 * anchor + 1]));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    mean_loss_kernel(const MeanLossArgs args, const MeanLossSums<T> sums, T* __restrict__ loss) {
  __shared__ double warp_totals[kThreads / kWarp];
  double total = 0;
  for (int64_t anchor = threadIdx.x; anchor < args.anchors; anchor += kThreads) {
    total += loss_of(args, sums.clean, anchor).value;
    if (sums.mixed != nullptr) total += args.strength * loss_of(args, sums.mixed, anchor).value;
  }
  total = warp_sum(total);
  if (threadIdx.x % kWarp == 0) warp_totals[threadIdx.x / kWarp] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / kWarp; ++warp) total += warp_totals[warp];
  *loss = T(share(args) * total);
}

template <class T>
__device__ __forceinline__ void write_gradient(const MeanLossArgs& args, const T* sums, int64_t anchor, double factor,
                                               T* grad_sums) {
  const AnchorLoss loss = loss_of(args, sums, anchor);
  METRIX_UNROLL
  for (int side = 0; side < 2; ++side) grad_sums[2 * anchor + side] = T(factor * loss.slopes[side]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    mean_loss_backward_kernel(const MeanLossArgs args, const MeanLossSums<T> sums, const MeanLossGradient<T> gradient) {
  const int64_t anchor = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (anchor >= args.anchors) return;
  const double factor = share(args) * double(*gradient.loss);
  write_gradient(args, sums.clean, anchor, factor, gradient.clean);
  if (sums.mixed != nullptr) write_gradient(args, sums.mixed, anchor, args.strength * factor, gradient.mixed);
}

}  // namespace

template <class T>
void mean_loss(const MeanLossArgs& args, const MeanLossSums<T>& sums, T* loss, int device, void* stream) {
  const DeviceGuard guard(device);
  launch("mean_loss", mean_loss_kernel<T>, dim3(1), kThreads, stream, args, sums, loss);
}

template <class T>
void mean_loss_backward(const MeanLossArgs& args, const MeanLossSums<T>& sums, const MeanLossGradient<T>& gradient,
                        int device, void* stream) {
  if (args.anchors == 0) return;
  const DeviceGuard guard(device);
  const int64_t blocks = (args.anchors + kThreads - 1) / kThreads;
  launch("mean_loss_backward", mean_loss_backward_kernel<T>, dim3(unsigned(blocks)), kThreads, stream, args, sums,
         gradient);
}

template void mean_loss<float>(const MeanLossArgs&, const MeanLossSums<float>&, float*, int, void*);
template void mean_loss<double>(const MeanLossArgs&, const MeanLossSums<double>&, double*, int, void*);
template void mean_loss_backward<float>(const MeanLossArgs&, const MeanLossSums<float>&, const MeanLossGradient<float>&,
                                        int, void*);
template void mean_loss_backward<double>(const MeanLossArgs&, const MeanLossSums<double>&,
                                         const MeanLossGradient<double>&, int, void*);

}  // namespace metrix::cuda
