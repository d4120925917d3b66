// Compiled once per instruction set, as rows.cpp is.
#include "products.h"

#include "simd.h"

namespace metrix::cpu {
namespace {

// The accumulators of a tile of results stay in registers: AVX-512 has 32, the others 16.
constexpr bool kManyRegisters = METRIX_VECTOR_BYTES == 64;

template <class T>
T dot(int64_t size, const T* x, const T* y) {
  Vector<T> even{}, odd{};
  int64_t j = 0;
  for (; j + 2 * kLanes<T> <= size; j += 2 * kLanes<T>) {
    even += load(x + j) * load(y + j);
    odd += load(x + j + kLanes<T>) * load(y + j + kLanes<T>);
  }
  T total = sum<T>(even + odd);
  for (; j < size; ++j) total += x[j] * y[j];
  return total;
}

template <class T>
void scaled_difference(int64_t size, const T* x, const T* y, T share, T scale, T* out) {
  int64_t j = 0;
  for (; j + kLanes<T> <= size; j += kLanes<T>) store(out + j, (load(x + j) - share * load(y + j)) * scale);
  for (; j < size; ++j) out[j] = (x[j] - share * y[j]) * scale;
}

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
  constexpr int kColumns = kManyRegisters ? 4 : 2;
  int64_t r = 0;
  for (; r + kDotRows <= row_count; r += kDotRows)
    dots_of<kDotRows, kColumns>(size, rows + r, columns, column_count, out + r * stride, stride);
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

// weighted_sums of the columns that Vectors vectors hold.
template <int Vectors, class T>
METRIX_FN void weighted_strip(const WeightedSums<T>& sums, int64_t column) {
  Vector<T> totals[kSumsTile][Vectors] = {};
  if (sums.add)
    for (int64_t r = 0; r < sums.rows; ++r)
      for (int v = 0; v < Vectors; ++v) totals[r][v] = load(sums.out + r * sums.stride + column + v * kLanes<T>);
  for (int64_t k = 0; k < sums.count; ++k) {
    Vector<T> x_k[Vectors];
    METRIX_UNROLL
    for (int v = 0; v < Vectors; ++v) x_k[v] = load(sums.x + k * sums.stride + column + v * kLanes<T>);
    METRIX_UNROLL
    for (int r = 0; r < kSumsTile; ++r) {
      METRIX_UNROLL
      for (int v = 0; v < Vectors; ++v) totals[r][v] += sums.weights[k * kSumsTile + r] * x_k[v];
    }
  }
  METRIX_UNROLL
  for (int r = 0; r < kSumsTile; ++r) {
    if (r == sums.rows) return;
    METRIX_UNROLL
    for (int v = 0; v < Vectors; ++v) store(sums.out + r * sums.stride + column + v * kLanes<T>, totals[r][v]);
  }
}

template <class T>
void weighted_sums(const WeightedSums<T>& sums) {
  constexpr int kVectors = kManyRegisters ? 4 : 2;
  int64_t column = 0;
  for (; column + kVectors * kLanes<T> <= sums.columns; column += kVectors * kLanes<T>)
    weighted_strip<kVectors>(sums, column);
  for (; column + kLanes<T> <= sums.columns; column += kLanes<T>) weighted_strip<1>(sums, column);
  for (; column < sums.columns; ++column)
    for (int64_t r = 0; r < sums.rows; ++r) {
      T total = sums.add ? sums.out[r * sums.stride + column] : T(0);
      for (int64_t k = 0; k < sums.count; ++k)
        total += sums.weights[k * kSumsTile + r] * sums.x[k * sums.stride + column];
      sums.out[r * sums.stride + column] = total;
    }
}

template <class T>
constexpr ProductKernels<T> kTable = {dot<T>, scaled_difference<T>, dots<T>, add_weighted<T>, weighted_sums<T>};

}  // namespace

extern const ProductKernels<float> METRIX_OF_ISA(kProductsF32_) = kTable<float>;
extern const ProductKernels<double> METRIX_OF_ISA(kProductsF64_) = kTable<double>;

}  // namespace metrix::cpu
