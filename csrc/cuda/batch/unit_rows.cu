// unit_rows: x / |x| by rows, and its gradient. A warp takes a row, a lane every 32nd element of it.
//   forward     |x|^2 over the lanes, then a second pass divides
//   backward    along = <y, dy> over the lanes, then dx = (dy - along y) / |x|
#include "cuda/common/launch.h"
#include "cuda/common/warp.cuh"
#include "unit_rows.h"

namespace metrix::cuda {
namespace {

constexpr int kRowWarps = 4;

template <class T>
__global__ void __launch_bounds__(kRowWarps* kWarp)
    unit_rows_kernel(const UnitRowsArgs<T> args, const T* __restrict__ x, T* __restrict__ unit, T* __restrict__ norm) {
  const int64_t row = int64_t(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
  const int lane = int(threadIdx.x) % kWarp;
  if (row >= args.rows) return;
  const T* const from = x + args.order[row] * args.columns;
  T square = T(0);
  for (int64_t k = lane; k < args.columns; k += kWarp) square = fused(from[k], from[k], square);
  square = warp_sum(square);
  T scale = T(1);
  if (square == kInfinity<T>) {  // squares overflow: divide by the largest number first, unless that is infinite, too
    T largest = T(0);
    for (int64_t k = lane; k < args.columns; k += kWarp)
      largest = at_least(from[k] < T(0) ? -from[k] : from[k], largest);
    largest = warp_max(largest);
    if (largest < kInfinity<T>) {
      scale = largest;
      square = T(0);
      for (int64_t k = lane; k < args.columns; k += kWarp) square = fused(from[k] / scale, from[k] / scale, square);
      square = warp_sum(square);
    }
  }
  const T length = at_least(SquareRoot<T>::of(square), T(kSmallestNorm));
  for (int64_t k = lane; k < args.columns; k += kWarp) unit[row * args.columns + k] = from[k] / scale / length;
  if (lane == 0) norm[row] = scale * length;
}

template <class T>
__global__ void __launch_bounds__(kRowWarps* kWarp)
    unit_rows_backward_kernel(const UnitRowsArgs<T> args, const T* __restrict__ unit, const T* __restrict__ norm,
                              const T* __restrict__ grad_unit, T* __restrict__ grad_x) {
  const int64_t row = int64_t(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
  const int lane = int(threadIdx.x) % kWarp;
  if (row >= args.rows) return;
  const T* const y = unit + row * args.columns;
  const T* const dy = grad_unit + row * args.columns;
  const T length = norm[row];
  T along = T(0);
  if (length > T(kSmallestNorm)) {  // below the floor the norm is a constant
    for (int64_t k = lane; k < args.columns; k += kWarp) along = fused(y[k], dy[k], along);
    along = warp_sum(along);
  }
  T* const to = grad_x + args.order[row] * args.columns;
  for (int64_t k = lane; k < args.columns; k += kWarp) to[k] = fused(-along, y[k], dy[k]) / length;
}

template <class T, class Kernel, class... Arguments>
void over_rows(const char* name, Kernel kernel, const UnitRowsArgs<T>& args, int device, void* stream,
               const Arguments&... arguments) {
  if (args.rows == 0) return;
  const DeviceGuard guard(device);
  const int64_t blocks = (args.rows + kRowWarps - 1) / kRowWarps;
  launch(name, kernel, dim3(unsigned(blocks)), kRowWarps * kWarp, stream, args, arguments...);
}

}  // namespace

template <class T>
void unit_rows(const UnitRowsArgs<T>& args, const T* x, T* unit, T* norm, int device, void* stream) {
  over_rows("unit_rows", unit_rows_kernel<T>, args, device, stream, x, unit, norm);
}

template <class T>
void unit_rows_backward(const UnitRowsArgs<T>& args, const T* unit, const T* norm, const T* grad_unit, T* grad_x,
                        int device, void* stream) {
  over_rows("unit_rows_backward", unit_rows_backward_kernel<T>, args, device, stream, unit, norm, grad_unit, grad_x);
}

template void unit_rows<float>(const UnitRowsArgs<float>&, const float*, float*, float*, int, void*);
template void unit_rows<double>(const UnitRowsArgs<double>&, const double*, double*, double*, int, void*);
template void unit_rows_backward<float>(const UnitRowsArgs<float>&, const float*, const float*, const float*, float*,
                                        int, void*);
template void unit_rows_backward<double>(const UnitRowsArgs<double>&, const double*, const double*, const double*,
                                         double*, int, void*);

}  // namespace metrix::cuda
