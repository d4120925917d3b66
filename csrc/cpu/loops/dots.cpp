// Compiled once per instruction set, as rows.cpp is.
#include "dots.h"

#include "simd.h"

namespace metrix::cpu {
namespace {

// Rows x Columns inner products at a time; past the last column the last one again.
template <int Rows, int Columns, class T>
METRIX_FN void dots_of(int64_t size, const T* const* rows, const T* const* columns, int64_t column_count, T* out,
                       int64_t stride) {
  for (int64_t begin = 0; begin < column_count; begin += Columns) {
    const T* column[Columns];
    METRIX_UNROLL
    for (int c = 0; c < Columns; ++c) column[c] = columns[begin + c < column_count ? begin + c : column_count - 1];
    Vector<T> total[Rows][Columns] = {};
    int64_t j = 0;
    for (; j + kLanes<T> <= size; j += kLanes<T>) {
      Vector<T> right[Columns];
      METRIX_UNROLL
      for (int c = 0; c < Columns; ++c) right[c] = load(column[c] + j);
      METRIX_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const Vector<T> left = load(rows[r] + j);
        METRIX_UNROLL
        for (int c = 0; c < Columns; ++c) total[r][c] += left * right[c];
      }
    }
    for (int r = 0; r < Rows; ++r) {
      for (int c = 0; c < Columns && begin + c < column_count; ++c) {
        T dot = sum<T>(total[r][c]);
        for (int64_t k = j; k < size; ++k) dot += rows[r][k] * column[c][k];
        out[r * stride + begin + c] = dot;
      }
    }
  }
}

template <class T>
void dots(int64_t size, const T* const* rows, int64_t row_count, const T* const* columns, int64_t column_count, T* out,
          int64_t stride) {
  int64_t r = 0;
  for (; r + 4 <= row_count; r += 4) dots_of<4, 4>(size, rows + r, columns, column_count, out + r * stride, stride);
  for (; r < row_count; ++r) dots_of<1, 8>(size, rows + r, columns, column_count, out + r * stride, stride);
}

template <int Vectors, class T>
METRIX_FN void add_weighted_at(int64_t j, const T* const* rows, const T* weights, int64_t count, T* out) {
  Vector<T> total[Vectors];
  METRIX_UNROLL
  for (int v = 0; v < Vectors; ++v) total[v] = load(out + j + v * kLanes<T>);
  for (int64_t k = 0; k < count; ++k) {
    METRIX_UNROLL
    for (int v = 0; v < Vectors; ++v) total[v] += weights[k] * load(rows[k] + j + v * kLanes<T>);
  }
  METRIX_UNROLL
  for (int v = 0; v < Vectors; ++v) store(out + j + v * kLanes<T>, total[v]);
}

template <class T>
void add_weighted(int64_t size, const T* const* rows, const T* weights, int64_t count, T* out) {
  int64_t j = 0;
  for (; j + 8 * kLanes<T> <= size; j += 8 * kLanes<T>) add_weighted_at<8>(j, rows, weights, count, out);
  for (; j + kLanes<T> <= size; j += kLanes<T>) add_weighted_at<1>(j, rows, weights, count, out);
  for (; j < size; ++j)
    for (int64_t k = 0; k < count; ++k) out[j] += weights[k] * rows[k][j];
}

template <class T>
constexpr DotKernels<T> kTable = {dots<T>, add_weighted<T>};

}  // namespace

extern const DotKernels<float> METRIX_OF_ISA(kDotsF32_) = kTable<float>;
extern const DotKernels<double> METRIX_OF_ISA(kDotsF64_) = kTable<double>;

}  // namespace metrix::cpu
