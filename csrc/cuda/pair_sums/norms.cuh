// Gradients of what the norms of the mixes are made of. nu is the norm of mix ij, and scaling it scales s(a, mix), so
// all that is needed of the anchors is the moment of a pair, M_ij = sum over a of s d loss / d s = -d loss / d log nu.
// With first = lambda / nu and second = (1 - lambda) / nu,
//   d k_ij = -M first second      d q_i = -1/2 sum_j M first^2      d q_j = -1/2 sum_i M second^2
// for k_ij = <x_i, x_j> and q = |x|^2. In the order of their launches:
//   pair_moments    M, where backward.cuh could not add it up: anchors of several groups use a row i
//   norm_gradients  d k in place of M, and the sums of a block's columns and rows
//   add_parts       the blocks' sums, in order; and the strips of columns of backward.cuh
#pragma once

#include "forward.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kNormThreads = 32;
#else
constexpr int kNormThreads = 256;
#endif

// Blocks on a multiprocessor: 65,536 registers / (5 * 128 threads) = 102 for a thread.
constexpr int kMomentBlocks = 5;

// The moments of a row of pairs where anchors of several groups use it (neg-neg, masks): block x owns the first i,
// block y some columns j, and all anchors that have i among their firsts pass by.
template <class T, RhoGradient<T> Gradient>
__global__ void __launch_bounds__(kPairThreads, kMomentBlocks)
    pair_moments(const PairSumsArgs<T> args, const DeviceRho<T> rho, const PairSumsGradient<T> gradient,
                 T* moments) {  // [n, n]
  __shared__ AnchorFactors<T> factors[kWarp];
  __shared__ T similarity[kWarp];
  __shared__ int anchors[kWarp];
  __shared__ int count;
  const PairSet set = describe(args.pairs);
  const int64_t n = args.examples;
  const int i = int(blockIdx.x);
  const int64_t j = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  const bool is_column = j < n && (!set.unordered || i < j);
  Mix<T> m{};
  if (is_column)
    m = mix<Pass::kBackward>(args, Gradient::kSides, load_pair(args, i * n + j),
                             args.renormalize ? args.sqnorm[i * args.sqnorm_stride] : T(0),
                             args.renormalize ? args.sqnorm[j * args.sqnorm_stride] : T(0));
  const T margin = margin_of(rho, m.weight, Gradient::kSides);
  T moment = T(0);
  for (int64_t from = 0; from < args.anchors; from += kWarp) {
    __syncthreads();
    if (threadIdx.x < kWarp) {
      const int64_t anchor = from + threadIdx.x;
      const bool uses = anchor < args.anchors && args.self[anchor] != i &&
                        Candidates<T>(args, anchor, set.first_positive).contains(i);
      const unsigned votes = __ballot_sync(kAllLanes, uses);
      if (uses) {
        const int at = votes_before(votes);
        anchors[at] = int(anchor);
        similarity[at] = args.similarity[anchor * n + i];
        factors[at] = Gradient::of_anchor(args.rho, gradient, anchor);
      }
      if (threadIdx.x == 0) count = __popc(votes);
    }
    __syncthreads();
    if (!is_column) continue;
    for (int p = 0; p < count; ++p) {
      const int64_t anchor = anchors[p];
      if (args.self[anchor] == j || !Candidates<T>(args, anchor, set.second_positive).contains(int(j))) continue;
      const T s = mixed_similarity(m.first, m.second, similarity[p], args.similarity[anchor * n + j]);
      moment += Gradient::template of_term<true, 0>(rho, s - margin, m.weight, factors[p]) * s;
    }
  }
  if (j < n) moments[i * n + j] = moment;
}

// Block x owns some columns, block y some rows. The moments lie where the gradient goes; the sums over the block's
// columns go to row_sums, and those over its rows to column_sums.
template <class T>
__global__ void __launch_bounds__(kNormThreads)
    norm_gradients(const PairSumsArgs<T> args,
                   const T* __restrict__ row_sqnorm,  // [rows] of the firsts: examples, or anchors
                   int64_t row_stride,
                   T* gram,           // [rows, n] M, then d k
                   T* row_sums,       // [blocks x, rows]
                   T* column_sums) {  // [blocks y, n]
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
          const Mix<T> m = mix<Pass::kBackward>(args, Sides::kBoth, load_pair(args, row * n + column),
                                                row_sqnorm[row * row_stride], sqnorm);
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
  const T* values;  // [parts, size]
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
  T* to;  // [size]
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
