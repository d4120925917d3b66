#include "gram.h"

#include "cpu/common/parallel.h"
#include "cpu/loops/rows.h"

namespace metrix::cpu {
namespace {

constexpr int64_t kBlock = 32;              // rows whose inner products with as many others are a slab of forward
constexpr int64_t kRowsOfSlab = 24;         // of backward
constexpr int64_t kDepth = 128;             // rows of x that backward passes over before it turns to the next rows
constexpr int64_t kWorthAThread = 1 << 18;  // multiplications

int64_t blocks_of(int64_t rows, int64_t size) { return (rows + size - 1) / size; }

struct NoScratch {};

template <class T>
struct Weights {
  T values[kDepth * kSumsTile];
};

}  // namespace

template <class T>
void gram(int64_t rows, int64_t columns, const T* x, T* products, int threads) {
  const int64_t blocks = blocks_of(rows, kBlock);
  if (rows * rows * columns < kWorthAThread) threads = 1;
  // The rows of a tile. Beyond the last row the last one fills it.
  const auto rows_from = [&](int64_t first, const T* tile[kGramTile]) {
    for (int64_t r = 0; r < kGramTile; ++r) tile[r] = x + std::min(first + r, rows - 1) * columns;
  };
  for_each_slab<NoScratch>(blocks * blocks, threads, [&](NoScratch&, int64_t slab) {
    const int64_t i_begin = slab / blocks * kBlock, j_begin = slab % blocks * kBlock;
    if (j_begin < i_begin) return;
    const int64_t i_end = std::min(i_begin + kBlock, rows), j_end = std::min(j_begin + kBlock, rows);
    for (int64_t i = i_begin; i < i_end; i += kGramTile) {
      const T* x_i[kGramTile];
      rows_from(i, x_i);
      for (int64_t j = i_begin == j_begin ? i : j_begin; j < j_end; j += kGramTile) {
        const T* x_j[kGramTile];
        rows_from(j, x_j);
        T tile[kGramTile][kGramTile];
        row_kernels<T>().inner_products(columns, x_i, x_j, tile);
        for (int64_t r = 0; r < std::min<int64_t>(kGramTile, rows - i); ++r)
          for (int64_t c = 0; c < std::min<int64_t>(kGramTile, rows - j); ++c)
            products[(i + r) * rows + j + c] = products[(j + c) * rows + i + r] = tile[r][c];
      }
    }
  });
}

template <class T>
void gram_backward(int64_t rows, int64_t columns, const T* x, const T* grad, T* grad_x, int threads) {
  if (rows * rows * columns < kWorthAThread) threads = 1;
  for_each_slab<Weights<T>>(blocks_of(rows, kRowsOfSlab), threads, [&](Weights<T>& weights, int64_t slab) {
    const int64_t end = std::min((slab + 1) * kRowsOfSlab, rows);
    for (int64_t k_begin = 0; k_begin < rows; k_begin += kDepth) {
      const int64_t depth = std::min(kDepth, rows - k_begin);
      for (int64_t i = slab * kRowsOfSlab; i < end; i += kSumsTile) {
        const int64_t tile = std::min<int64_t>(kSumsTile, end - i);
        for (int64_t k = 0; k < depth; ++k)
          for (int64_t r = 0; r < kSumsTile; ++r) {
            const int64_t row = std::min(i + r, end - 1), column = k_begin + k;
            weights.values[k * kSumsTile + r] = grad[row * rows + column] + grad[column * rows + row];
          }
        row_kernels<T>().weighted_sums(
            {tile, depth, columns, weights.values, x + k_begin * columns, grad_x + i * columns, columns, k_begin > 0});
      }
    }
  });
}

template void gram<float>(int64_t, int64_t, const float*, float*, int);
template void gram<double>(int64_t, int64_t, const double*, double*, int);
template void gram_backward<float>(int64_t, int64_t, const float*, const float*, float*, int);
template void gram_backward<double>(int64_t, int64_t, const double*, const double*, double*, int);

}  // namespace metrix::cpu
