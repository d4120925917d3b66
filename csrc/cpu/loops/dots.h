// Inner products of rows with rows and sums of rows, compiled once per instruction set.
#pragma once

#include <cstdint>

namespace metrix::cpu {

template <class T>
struct DotKernels {
  // out[r * stride + c] = <rows[r], columns[c]>, of length size.
  void (*dots)(int64_t size, const T* const* rows, int64_t row_count, const T* const* columns, int64_t column_count,
               T* out, int64_t stride);
  // out += sum over k of weights[k] rows[k].
  void (*add_weighted)(int64_t size, const T* const* rows, const T* weights, int64_t count, T* out);
};

// The kernels of the instruction set that row_kernels() has.
template <class T>
const DotKernels<T>& dot_kernels();

}  // namespace metrix::cpu
