// symmetric_parts: x + x^T in three parts. A block takes two tiles of 32 x 32 that mirror each other, so that x is read
// once. A warp reads and writes rows of a tile, 32 neighbouring columns at a time.
//   sum         tile (r, c) and tile (c, r), the second read across, through shared memory
//   parts       high = bfloat16(s), middle = bfloat16(s - high), low = bfloat16(s - high - middle)
//   store       into tile (r, c), and through shared memory again into tile (c, r)
#include <cuda_bf16.h>

#include "cuda/common/launch.h"
#include "cuda/common/warp.cuh"
#include "symmetric_parts.h"

namespace metrix::cuda {
namespace {

constexpr int kTile = kWarp;
constexpr int kTileWarps = 8;
constexpr int kBlocks = 4;  // on a multiprocessor, at least: with eight in mind the compiler spills

__device__ __forceinline__ void store_parts(float sum, int64_t at, int64_t elements,
                                            __nv_bfloat16* __restrict__ parts) {
  METRIX_UNROLL
  for (int part = 0; part < 3; ++part) {
    const __nv_bfloat16 rounded = __float2bfloat16_rn(sum);
    parts[part * elements + at] = rounded;
    sum -= __bfloat162float(rounded);
  }
}

__global__ void __launch_bounds__(kTileWarps* kWarp, kBlocks)
    symmetric_parts_kernel(int64_t rows, const float* __restrict__ x, __nv_bfloat16* __restrict__ parts) {
  if (blockIdx.x < blockIdx.y) return;                // the tile's mirror image has it
  __shared__ float tile[kTile][kTile + 1];            // a row more, so that columns lie in different banks
  const int64_t above = int64_t(blockIdx.y) * kTile;  // the first row of the tile on or above the diagonal
  const int64_t left = int64_t(blockIdx.x) * kTile;   // and its first column
  const int lane = int(threadIdx.x) % kWarp;
  const int warp = int(threadIdx.x) / kWarp;
  for (int k = warp; k < kTile; k += kTileWarps) {
    const int64_t row = left + k, column = above + lane;
    if (row < rows && column < rows) tile[k][lane] = x[row * rows + column];
  }
  __syncthreads();
  for (int k = warp; k < kTile; k += kTileWarps) {
    const int64_t row = above + k, column = left + lane;
    if (row >= rows || column >= rows) continue;
    const float sum = x[row * rows + column] + tile[lane][k];
    tile[lane][k] = sum;
    store_parts(sum, row * rows + column, rows * rows, parts);
  }
  if (blockIdx.x == blockIdx.y) return;
  __syncthreads();
  for (int k = warp; k < kTile; k += kTileWarps) {
    const int64_t row = left + k, column = above + lane;
    if (row < rows && column < rows) store_parts(tile[k][lane], row * rows + column, rows * rows, parts);
  }
}

}  // namespace

void symmetric_parts(int64_t rows, const float* x, void* parts, int device, void* stream) {
  if (rows == 0) return;
  const DeviceGuard guard(device);
  const auto tiles = unsigned(ceil_div(rows, kTile));
  launch("symmetric_parts", symmetric_parts_kernel, dim3(tiles, tiles), kTileWarps * kWarp, stream, rows, x,
         static_cast<__nv_bfloat16*>(parts));
}

}  // namespace metrix::cuda
