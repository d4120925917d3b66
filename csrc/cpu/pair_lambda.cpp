#include "../pair_lambda.h"

#include "parallel.h"
#include "rows.h"

namespace metrix::cpu {
namespace {

constexpr int64_t kTile = 32;
constexpr int64_t kWorthAThread = 8192;

// One tile of pairs, and its mirror image if the matrix is that of one list of indices with itself.
template <class T>
void fill_tile(const PairLambdaArgs& args, int64_t row, int64_t column, bool mirrored, T* lambda) {
  const int64_t rows = std::min(kTile, args.row_count - row), columns = std::min(kTile, args.column_count - column);
  T tile[kTile * kTile];
  for (int64_t r = 0; r < rows; ++r) row_kernels<T>().lambda_row(args, row + r, column, columns, tile + r * kTile);
  const int64_t *i = args.rows + row, *j = args.columns + column;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      lambda[(row + r) * args.column_count + column + c] = weight_of_first(tile[r * kTile + c], i[r], j[c]);
  if (!mirrored || row == column) return;
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r)
      lambda[(column + c) * args.column_count + row + r] = weight_of_first(tile[r * kTile + c], j[c], i[r]);
}

}  // namespace

template <class T>
void pair_lambda(const PairLambdaArgs& args, T* lambda, int threads) {
  const bool mirrored = args.rows == args.columns && args.row_count == args.column_count;
  if (args.row_count * args.column_count < kWorthAThread) threads = 1;
  struct NoScratch {};
  for_each_slab<NoScratch>((args.row_count + kTile - 1) / kTile, threads, [&](NoScratch&, int64_t slab) {
    for (int64_t column = mirrored ? slab * kTile : 0; column < args.column_count; column += kTile)
      fill_tile(args, slab * kTile, column, mirrored, lambda);
  });
}

template void pair_lambda<float>(const PairLambdaArgs&, float*, int);
template void pair_lambda<double>(const PairLambdaArgs&, double*, int);

}  // namespace metrix::cpu
