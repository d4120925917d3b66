#include "unit_rows.h"

#include <cmath>

#include "cpu/common/parallel.h"
#include "cpu/loops/products.h"

namespace metrix::cpu {
template <class T>
void unit_rows(const UnitRowsArgs<T>& args, const T* x, T* unit, T* norm, int threads) {
  const ProductKernels<T>& kernels = product_kernels<T>();
  threads = threads_for(args.rows * args.columns, threads);
  for_each_item<NoScratch>(args.rows, threads, [&](NoScratch&, int64_t row) {
    const T* from = x + args.order[row] * args.columns;
    const T length = std::sqrt(kernels.dot(args.columns, from, from));
    norm[row] = length < T(kSmallestNorm) ? T(kSmallestNorm) : length;  // a NaN stays
    kernels.scaled_difference(args.columns, from, from, T(0), T(1) / norm[row], unit + row * args.columns);
  });
}

template <class T>
void unit_rows_backward(const UnitRowsArgs<T>& args, const T* unit, const T* norm, const T* grad_unit, T* grad_x,
                        int threads) {
  const ProductKernels<T>& kernels = product_kernels<T>();
  threads = threads_for(args.rows * args.columns, threads);
  for_each_item<NoScratch>(args.rows, threads, [&](NoScratch&, int64_t row) {
    const T* y = unit + row * args.columns;
    const T* dy = grad_unit + row * args.columns;
    // Below the floor the norm is a constant.
    const T along = norm[row] > T(kSmallestNorm) ? kernels.dot(args.columns, y, dy) : T(0);
    kernels.scaled_difference(args.columns, dy, y, along, T(1) / norm[row], grad_x + args.order[row] * args.columns);
  });
}

template void unit_rows<float>(const UnitRowsArgs<float>&, const float*, float*, float*, int);
template void unit_rows<double>(const UnitRowsArgs<double>&, const double*, double*, double*, int);
template void unit_rows_backward<float>(const UnitRowsArgs<float>&, const float*, const float*, const float*, float*,
                                        int);
template void unit_rows_backward<double>(const UnitRowsArgs<double>&, const double*, const double*, const double*,
                                         double*, int);

}  // namespace metrix::cpu
