// The inner loops of products of rows with rows and of sums of rows, compiled once per instruction set: gram,
// unit_rows and anchor_sums.
#pragma once

#include <cstdint>

namespace metrix::cpu {

// Rows whose inner products are taken at a time: with 4 columns (2 where there are 16 registers) as many accumulators
// as keep every multiplier of a core busy.
constexpr int kDotRows = 4;

// Rows of a tile of weighted sums: 6 of 4 vectors are 24 accumulators of 32 registers, of 2 vectors 12 of 16, which
// leaves room for the vectors that are added and a weight.
constexpr int kSumsTile = 6;

// out_r = sum over k < count of weight_kr x_k, each [columns], for the first of kSumsTile rows r.
template <class T>
struct WeightedSums {
  int64_t rows, count, columns;
  const T* weights;  // [count, kSumsTile]
  const T* x;        // [count, columns]
  T* out;            // [rows, columns]
  int64_t stride;    // from row to row of x and of out
  bool add;          // to what out has
};

template <class T>
struct ProductKernels {
  T (*dot)(int64_t size, const T* x, const T* y);
  // out = (x - share * y) * scale.
  void (*scaled_difference)(int64_t size, const T* x, const T* y, T share, T scale, T* out);
  // out[r * stride + c] = <rows[r], columns[c]>, of length size.
  void (*dots)(int64_t size, const T* const* rows, int64_t row_count, const T* const* columns, int64_t column_count,
               T* out, int64_t stride);
  // out += sum over k of weights[k] rows[k].
  void (*add_weighted)(int64_t size, const T* const* rows, const T* weights, int64_t count, T* out);
  void (*weighted_sums)(const WeightedSums<T>&);
};

// The kernels of the instruction set that row_kernels() has.
template <class T>
const ProductKernels<T>& product_kernels();

}  // namespace metrix::cpu
