// pair_lambda: lambda of every pair, one thread a pair.
//   index       pair -> (row, column) -> global indices (i, j)
//   lambda      Philox-4x32-10 of (seed, i, j) -> quantile of Beta(alpha, alpha), in double precision   math.h
//   store       as the weight of the first: lambda_ji = 1 - lambda_ij                                   math.h
#include "cuda/common/launch.h"
#include "pair_lambda.h"

namespace metrix::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void pair_lambda_kernel(PairLambdaArgs args, T* __restrict__ lambda) {
  const uint64_t seed = uint64_t(*args.seed);
  const int64_t pairs = args.row_count * args.column_count;
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t pair = int64_t(blockIdx.x) * kThreads + threadIdx.x; pair < pairs; pair += step) {
    const int64_t row = pair / args.column_count;
    const int64_t column = pair - row * args.column_count;
    const uint64_t i = uint64_t(args.rows[row]), j = uint64_t(args.columns[column]);
    lambda[pair] = weight_of_first(T(lambda_of_pair(seed, i, j, args.quantile)), i == j, i < j);
  }
}

}  // namespace

template <class T>
void pair_lambda(const PairLambdaArgs& args, T* lambda, int device, void* stream) {
  const int64_t pairs = args.row_count * args.column_count;
  if (pairs == 0) return;
  const DeviceGuard guard(device);
  // A grid of a few waves on any card; the loop in the kernel takes the rest.
  const int64_t blocks = (pairs + kThreads - 1) / kThreads;
  const unsigned grid = unsigned(blocks < 65536 ? blocks : 65536);
  launch("pair_lambda", pair_lambda_kernel<T>, grid, kThreads, stream, args, lambda);
}

template void pair_lambda<float>(const PairLambdaArgs&, float*, int, void*);
template void pair_lambda<double>(const PairLambdaArgs&, double*, int, void*);

}  // namespace metrix::cuda
