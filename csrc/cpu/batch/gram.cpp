#include "gram.h"

#include <algorithm>

#include "cpu/common/parallel.h"
#include "cpu/common/sizes.h"
#include "cpu/loops/products.h"

namespace metrix::cpu {
namespace {

// Forward: a slab is the products of so many rows with as many others, which fit a second-level cache for any usual
// width (32 rows of 512 floats are 64 KB).
constexpr int64_t kBlock = 32;
// Backward: rows of x that are passed over before the next rows turn to them, so that they come from the second-level
// cache (128 rows of 512 floats are 256 KB), and the rows of a slab, which share them.
constexpr int64_t kDepth = 128;
constexpr int64_t kRowsOfSlab = 4 * kSumsTile;
// Multiplications that are worth a thread, several of which are one instruction.
constexpr int64_t kProductsWorthAThread = 1 << 18;

template <class T>
struct Weights {
  T values[kDepth * kSumsTile];
};

}  // namespace

template <class T>
void gram(int64_t rows, int64_t columns, const T* x, T* products, int threads) {
  const int64_t blocks = ceil_div(rows, kBlock);
  const auto rows_of = [&](int64_t begin, int64_t end, const T* list[kBlock]) {
    for (int64_t r = begin; r < end; ++r) list[r - begin] = x + r * columns;
  };
  threads = threads_for(rows * rows * columns, threads, kProductsWorthAThread);
  for_each_slab<NoScratch>(blocks * blocks, threads, [&](NoScratch&, int64_t slab) {
    const int64_t i_begin = slab / blocks * kBlock, j_begin = slab % blocks * kBlock;
    if (j_begin < i_begin) return;
    const int64_t i_end = std::min(i_begin + kBlock, rows), j_end = std::min(j_begin + kBlock, rows);
    const T *x_i[kBlock], *x_j[kBlock];
    rows_of(i_begin, i_end, x_i);
    rows_of(j_begin, j_end, x_j);
    for (int64_t i = i_begin; i < i_end; i += kDotRows) {
      // Of the blocks on the diagonal what is right of it, and what is left over of a tile.
      const int64_t j = i_begin == j_begin ? i : j_begin, height = std::min<int64_t>(kDotRows, i_end - i);
      T tile[kDotRows][kBlock];
      product_kernels<T>().dots(columns, x_i + i - i_begin, height, x_j + j - j_begin, j_end - j, tile[0], kBlock);
      for (int64_t r = 0; r < height; ++r) std::copy_n(tile[r], j_end - j, products + (i + r) * rows + j);
      for (int64_t c = 0; c < j_end - j; ++c)
        for (int64_t r = 0; r < height; ++r) products[(j + c) * rows + i + r] = tile[r][c];
    }
  });
}

template <class T>
void gram_backward(int64_t rows, int64_t columns, const T* x, const T* grad, T* grad_x, int threads) {
  threads = threads_for(rows * rows * columns, threads, kProductsWorthAThread);
  for_each_slab<Weights<T>>(ceil_div(rows, kRowsOfSlab), threads, [&](Weights<T>& weights, int64_t slab) {
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
        product_kernels<T>().weighted_sums(
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
