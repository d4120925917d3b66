// pair_sums, forward, for the sets of pairs (i, j) within the examples. A block of threads, for each of its groups of 8
// anchors a of one class (in double precision 4):
//
//   index       anchors of the class that share a block, and who is whose positive       class_groups.cuh, pair.cuh
//   for every 32 firsts i of these anchors:
//     load      s(a, i), |x_i|^2 and i into shared memory                                pair.cuh, StagedRows
//     for every second j of this thread:
//       load    s(a, j), |x_j|^2 into registers                                          pair.cuh, OwnColumn
//       for each of the firsts i:
//         mix       lambda_ij, <x_i, x_j> -> first, second, weight of 8 anchors at once  pair.cuh, mix()
//                   s(a, mix) = first s(a, i) + second s(a, j), less its margin          math.h
//         exponent  scale s + shift, against the running shift                           rho/exponential.cuh, add()
//         accumulate  sum[side][a] += weight[side] 2^exponent                            the same; common/exp2.cuh
//   merge       lanes of a warp, warps of the block (here), strips of columns (merge_sums)    common/warp.cuh
//
//                         strip blockIdx.y = 0       strip 1
//     thread (column j)   0    1    2  ...  127   |  0    1  ...
//     first i = i_0       |    |    |        |    |  |    |         every thread walks down its column; its 16 sums
//           i = i_1       |    |    |        |    |  |    |         and the s(a, j) stay in registers, while
//           ...           v    v    v        v    |  v    v         s(a, i) comes from shared memory for all 128
//           i = i_31                              |                 at once
#pragma once

#include "pair.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kPairThreads = 32;
#else
constexpr int kPairThreads = 128;
#endif

// Without partial sums in memory this block's is the whole sum. blockIdx.y is the strip of columns.
template <class T, RhoSum<T> Sum>
__global__ void __launch_bounds__(kPairThreads, Sum::kBlocksPerMultiprocessor)
    sum_pairs(const PairSumsArgs<T> args, const DeviceRho<T> rho, const ClassGroups groups,
              PartialSum<T>* partial,  // [strips, m, 2] or null
              const PairSumsOutput<T> output) {
  constexpr int kAnchors = Sum::kAnchors;
  __shared__ AnchorBlock<kAnchors> block;
  __shared__ StagedRows<T, kAnchors> rows;
  __shared__ PartialSum<T> of_warps[kPairThreads / kWarp][kAnchors][2];
  const PairSet set = describe(args.pairs);
  const int places = int(args.anchors), per_block = (places - 1) / int(gridDim.x) + 1;
  const int first_place = int(blockIdx.x) * per_block;

  for (int place = first_place; place < places && place < first_place + per_block; ++place) {
    if (!groups.begins_block(place, kAnchors)) continue;
    block.load(args, groups, place);
    const Candidates<T> firsts(args, block.anchor[0], set.first_positive);
    const Candidates<T> seconds(args, block.anchor[0], set.second_positive);
    Sum sum;
    for (int from = 0; from < firsts.size(); from += kStagedRows) {
      rows.template load<Pass::kForward>(args, firsts, from, block);
      if (rows.count == 0) continue;
      for (int64_t strip = blockIdx.y; strip * blockDim.x < args.examples; strip += gridDim.y) {
        OwnColumn<T, kAnchors> column;
        column.template load<Pass::kForward>(args, seconds, block, strip * blockDim.x + threadIdx.x);
        if (column.skip == kSkipAll) continue;
        METRIX_UNROLL
        for (int a = 0; a < kAnchors; ++a)
          if (!(column.similarity[a] - column.similarity[a] == T(0))) block.is_not_finite[a] = 1;
        PairData<T> next = load_pair(args, rows.matrix_row[0] + column.example);
        for (int p = 0; p < rows.count; ++p) {
          const PairData<T> pair = next;
          if (p + 1 < rows.count) next = load_pair(args, rows.matrix_row[p + 1] + column.example);
          if (set.unordered && column.example <= rows.example[p]) break;  // rows ascend
          const Mix<T> m = mix<Pass::kForward>(args, Sum::kSides, pair, rows.sqnorm[p], column.sqnorm);
          const T margin = margin_of(rho, m.weight, Sum::kSides);
          T s[kAnchors];
          METRIX_UNROLL
          for (int a = 0; a < kAnchors; ++a)
            s[a] = mixed_similarity(m.first, m.second, rows.similarity[p][a], column.similarity[a], margin);
          const unsigned skip = rows.skip[p] | column.skip;
          if (skip != 0)
            sum.template add<true>(rho, s, m.weight, skip);
          else
            sum.template add<false>(rho, s, m.weight, 0);
        }
      }
    }
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a) {
      METRIX_UNROLL
      for (int side = 0; side < 2; ++side) {
        const PartialSum<T> of_warp = takes(Sum::kSides, side) ? sum.over_warp(side, a) : Sum::empty();
        if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp][a][side] = of_warp;
        if (of_warp.sum != of_warp.sum) block.is_not_finite[a] = 1;  // by lambda or a norm
      }
    }
    __syncthreads();
    if (threadIdx.x < 2 * kAnchors) {
      const int a = int(threadIdx.x) / 2, side = int(threadIdx.x) % 2;
      PartialSum<T> of_block = Sum::empty();
      for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp)
        of_block = Sum::merge(of_block, of_warps[warp][a][side]);
      const int64_t anchor = block.anchor[a];
      if (block.is_not_finite[a] && anchor >= 0 && has_terms(args, set, anchor)) of_block = {T(0), kNaN<T>};
      if (anchor >= 0 && partial == nullptr) write_sum<Sum>(of_block, anchor, side, args.rho, output);
      if (anchor >= 0 && partial != nullptr) partial[(blockIdx.y * args.anchors + anchor) * 2 + side] = of_block;
    }
  }
}

// Adds up the strips in order.
template <class T, RhoSum<T> Sum>
__global__ void __launch_bounds__(kPairThreads) merge_sums(int64_t anchors, int64_t strips,
                                                           const PartialSum<T>* __restrict__ partial,  // [strips, m, 2]
                                                           const Rho rho, const PairSumsOutput<T> output) {
  const int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (k >= 2 * anchors) return;
  PartialSum<T> sum = Sum::empty();
  for (int64_t strip = 0; strip < strips; ++strip) sum = Sum::merge(sum, partial[strip * 2 * anchors + k]);
  write_sum<Sum>(sum, k / 2, int(k % 2), rho, output);
}

}  // namespace metrix::cuda
