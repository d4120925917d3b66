// From the moments M of the pairs to the gradients of what the norms of the mixes are made of: with first = lambda /
// nu and second = (1 - lambda) / nu,
//   dk_ij = -M first second      dq_i = -1/2 sum_j M first^2      dq_j = -1/2 sum_i M second^2.
#pragma once

#include "mix.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kNormThreads = 32;
#else
constexpr int kNormThreads = 256;
#endif

// Block x owns some columns, block y some rows. The moments lie where the gradient goes; the sums over the block's
// columns go to row_sums [blocks x, rows] and those over its rows to column_sums [blocks y, columns].
template <class T>
__global__ void __launch_bounds__(kNormThreads)
    norm_gradients(const PairSumsArgs<T> args, const T* __restrict__ row_sqnorm, int64_t row_stride, T* gram,
                   T* row_sums, T* column_sums) {
  __shared__ T warp_sums_of_rows[kWarp][kNormThreads / kWarp];
  const int64_t n = args.examples;
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t per_block = (args.rows - 1) / gridDim.y + 1, first = args.first_row + blockIdx.y * per_block;
  const int64_t last = args.first_row + args.rows, end = first + per_block < last ? first + per_block : last;
  const T sqnorm = column < n ? args.sqnorm[column * args.sqnorm_stride] : T(0);
  T column_sum = T(0);
  for (int64_t chunk = first; chunk < end; chunk += kWarp) {
    for (int64_t row = chunk; row < end && row < chunk + kWarp; ++row) {
      T row_term = T(0);
      if (column < n) {
        T* const at = gram + row * n + column;
        const T moment = *at;
        // Pairs that nobody uses have the moment 0, and their norm may be anything.
        if (moment != T(0)) {
          const Mix<T> m =
              mix(args, Sides::kBoth, load_pair(args, row * n + column), row_sqnorm[row * row_stride], sqnorm);
          *at = -moment * m.first * m.second;
          row_term = T(-0.5) * moment * m.first * m.first;
          column_sum += T(-0.5) * moment * m.second * m.second;
        }
      }
      row_term = warp_sum(row_term);
      if (threadIdx.x % kWarp == 0) warp_sums_of_rows[row - chunk][threadIdx.x / kWarp] = row_term;
    }
    __syncthreads();
    const int64_t row = chunk + threadIdx.x;
    if (threadIdx.x < kWarp && row < end) {
      T total = T(0);
      for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp) total += warp_sums_of_rows[threadIdx.x][warp];
      row_sums[blockIdx.x * args.rows + row - args.first_row] = total;
    }
    __syncthreads();
  }
  if (column < n) column_sums[blockIdx.y * n + column] = column_sum;
}

// A sum over the first dimension of [parts, size], in order: elements [begin, begin + size) of what it is added to.
template <class T>
struct Parts {
  const T* values;
  int64_t parts, size, begin;

  __device__ __forceinline__ T sum(int64_t k) const {
    T total = T(0);
    if (begin <= k && k < begin + size)
      for (int64_t part = 0; part < parts; ++part) total += values[part * size + k - begin];
    return total;
  }
};

// Two such sums, one of which may be nothing, into [size] that lie so far apart; onto them if they are a diagonal.
template <class T>
struct Addition {
  T* to;
  int64_t size, stride;
  Parts<T> first, second;

  __device__ __forceinline__ void run(int64_t begin, int64_t step) const {
    for (int64_t k = begin; k < size; k += step) {
      const T sum = first.sum(k) + second.sum(k);
      to[k * stride] = is_diagonal(stride) ? to[k * stride] + sum : sum;
    }
  }
};

// Two additions in one launch. They may go to the same diagonal: element k of both is one thread's.
template <class T>
__global__ void __launch_bounds__(kNormThreads) add_parts(const Addition<T> one, const Addition<T> other) {
  const int64_t begin = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, step = int64_t(gridDim.x) * blockDim.x;
  one.run(begin, step);
  other.run(begin, step);
}

}  // namespace metrix::cuda
