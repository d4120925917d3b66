#include "unit_rows.h"

#include <algorithm>
#include <cmath>

#include "cpu/common/parallel.h"
#include "cpu/loops/products.h"

namespace metrix::cpu {
namespace {

template <class T>
T largest_of(int64_t columns, const T* row) {
  T largest = T(0);
  for (int64_t k = 0; k < columns; ++k) largest = std::max(largest, std::abs(row[k]));
  return largest;
}

// Where the squares overflow although all numbers are finite: the row is divided by its largest number first.
template <class T>
T scaled_unit_row(const ProductKernels<T>& kernels, int64_t columns, T largest, const T* from, T* unit) {
  for (int64_t k = 0; k < columns; ++k) unit[k] = from[k] / largest;
  const T length = std::sqrt(kernels.dot(columns, unit, unit));
  for (int64_t k = 0; k < columns; ++k) unit[k] /= length;
  return largest * length;
}

}  // namespace

template <class T>
void unit_rows(const UnitRowsArgs<T>& args, const T* x, T* unit, T* norm, int threads) {
  const ProductKernels<T>& kernels = product_kernels<T>();
  threads = threads_for(args.rows * args.columns, threads);
  for_each_item<NoScratch>(args.rows, threads, [&](NoScratch&, int64_t row) {
    const T* from = x + args.order[row] * args.columns;
    const T length = std::sqrt(kernels.dot(args.columns, from, from));
    if (const T largest = std::isinf(length) ? largest_of(args.columns, from) : T(0);
        largest > 0 && std::isfinite(largest)) {
      norm[row] = scaled_unit_row(kernels, args.columns, largest, from, unit + row * args.columns);
      return;
    }
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
