#include "../pair_lambda.h"

#include "parallel.h"
#include "rows.h"

namespace metrix::cpu {

template <class T>
void pair_lambda(const PairLambdaArgs& args, T* lambda, int threads) {
  constexpr int64_t kWorthAThread = 8192;
  const RowKernels<T>& kernels = row_kernels<T>();
  const int64_t slabs = std::min(args.row_count, kSlabs);
  if (args.row_count * args.column_count < kWorthAThread) threads = 1;
  struct NoScratch {};
  for_each_slab<NoScratch>(slabs, threads, [&](NoScratch&, int64_t slab) {
    for (int64_t row = slab; row < args.row_count; row += slabs)
      kernels.lambda_row(args, row, lambda + row * args.column_count);
  });
}

template void pair_lambda<float>(const PairLambdaArgs&, float*, int);
template void pair_lambda<double>(const PairLambdaArgs&, double*, int);

}  // namespace metrix::cpu
