#include "pair_lambda.h"

#include <algorithm>

#include "cpu/common/parallel.h"
#include "cpu/common/sizes.h"
#include "cpu/loops/lambdas.h"

namespace metrix::cpu {
namespace {

constexpr int64_t kTile = 32;
static_assert(kTile * kTile % kLambdaPad == 0);
constexpr int64_t kLambdasWorthAThread = 8192;  // each is ten rounds of Philox and a polynomial of degree 31

// The pairs of one tile in a list, so that the kernel computes no others.
template <class T>
struct Tile {
  int64_t count;
  int64_t i[kTile * kTile], j[kTile * kTile];
  T ij[kTile * kTile], ji[kTile * kTile];
};

// Fills one tile, and its mirror image if the matrix is that of one list of indices with itself.
template <class T>
void fill(const PairLambdaArgs& args, int64_t row, int64_t column, bool mirrored, Tile<T>& tile, T* lambda) {
  const int64_t row_end = std::min(row + kTile, args.row_count);
  const int64_t column_end = std::min(column + kTile, args.column_count);
  const auto first_column = [&](int64_t r) { return mirrored ? std::max(r, column) : column; };
  tile.count = 0;
  for (int64_t r = row; r < row_end; ++r)
    for (int64_t c = first_column(r); c < column_end; ++c, ++tile.count) {
      tile.i[tile.count] = args.rows[r];
      tile.j[tile.count] = args.columns[c];
    }
  const int64_t size = padded(tile.count, kLambdaPad);
  std::fill(tile.i + tile.count, tile.i + size, 0);
  std::fill(tile.j + tile.count, tile.j + size, 0);
  lambda_kernels<T>().pair_lambda(uint64_t(*args.seed), args.quantile, size, tile.i, tile.j, tile.ij, tile.ji);
  int64_t k = 0;
  for (int64_t r = row; r < row_end; ++r)
    for (int64_t c = first_column(r); c < column_end; ++c, ++k) {
      lambda[r * args.column_count + c] = tile.ij[k];
      if (mirrored) lambda[c * args.column_count + r] = tile.ji[k];
    }
}

}  // namespace

template <class T>
void pair_lambda(const PairLambdaArgs& args, T* lambda, int threads) {
  const bool mirrored = args.rows == args.columns && args.row_count == args.column_count;
  threads = threads_for(args.row_count * args.column_count, threads, kLambdasWorthAThread);
  for_each_slab<Tile<T>>(ceil_div(args.row_count, kTile), threads, [&](Tile<T>& tile, int64_t slab) {
    for (int64_t column = mirrored ? slab * kTile : 0; column < args.column_count; column += kTile)
      fill(args, slab * kTile, column, mirrored, tile, lambda);
  });
}

template void pair_lambda<float>(const PairLambdaArgs&, float*, int);
template void pair_lambda<double>(const PairLambdaArgs&, double*, int);

}  // namespace metrix::cpu
