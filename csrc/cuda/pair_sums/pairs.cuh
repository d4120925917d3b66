// The sets of pairs within the examples, forward. A block takes a few anchors that share their candidates; a thread
// takes columns j and keeps the sums of all these anchors in registers while the firsts i pass by in shared memory.
// So lambda, the norm and the weights of a pair (i, j) are computed once for the block's anchors, and a term is left
// with two products for its similarity and its exponentials.
#pragma once

#include "firsts.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kPairThreads = 32;
#else
constexpr int kPairThreads = 128;
#endif

// Partial sums lie by strip, anchor and side; without them this block's is the whole sum.
template <class T, class Sums>
__global__ void __launch_bounds__(kPairThreads, Sums::kBlocks)
    sum_pairs(const PairSumsArgs<T> args, const Scales<T> rho, const Groups groups, Cell<T>* partial,
              const PairSumsOutput<T> output) {
  constexpr int kAnchors = Sums::kSize;
  constexpr int kWarps = kPairThreads / kWarp;
  __shared__ AnchorBlock<kAnchors> block;
  __shared__ Firsts<T, kAnchors> firsts;
  __shared__ Cell<T> warp_cells[kWarps][kAnchors][2];
  const PairSet set = describe(args.pairs);
  const int places = int(args.anchors), per_block = (places - 1) / int(gridDim.x) + 1;
  const int first_place = int(blockIdx.x) * per_block;

  for (int place = first_place; place < places && place < first_place + per_block; ++place) {
    if (!groups.leads(place, kAnchors)) continue;
    block.load(args, groups, place);
    const Candidates<T> first_candidates(args, block.anchor[0], set.first_positive);
    const Candidates<T> second_candidates(args, block.anchor[0], set.second_positive);
    Sums sums;
    for (int from = 0; from < first_candidates.size(); from += kFirsts) {
      firsts.load(args, first_candidates, from, block);
      if (firsts.count == 0) continue;
      for (int64_t strip = blockIdx.y; strip * blockDim.x < args.examples; strip += gridDim.y) {
        Second<T, kAnchors> second;
        second.load(args, second_candidates, block, strip * blockDim.x + threadIdx.x);
        if (second.without == kNobody) continue;
        METRIX_UNROLL
        for (int a = 0; a < kAnchors; ++a)
          if (!(second.similarity[a] - second.similarity[a] == T(0))) block.is_bad[a] = 1;
        PairData<T> next = load_pair(args, firsts.row[0] + second.column);
        for (int p = 0; p < firsts.count; ++p) {
          const PairData<T> pair = next;
          if (p + 1 < firsts.count) next = load_pair(args, firsts.row[p + 1] + second.column);
          if (set.unordered && second.column <= firsts.column[p]) break;  // firsts ascend
          const Mix<T> m = mix(args, Sums::kSides, pair, firsts.sqnorm[p], second.sqnorm);
          T s[kAnchors];
          METRIX_UNROLL
          for (int a = 0; a < kAnchors; ++a)
            s[a] = mixed_similarity(m.first, m.second, firsts.similarity[p][a], second.similarity[a]);
          const unsigned without = firsts.without[p] | second.without;
          if (without != 0)
            sums.template add<true>(rho, s, m.weight, without);
          else
            sums.template add<false>(rho, s, m.weight, 0);
        }
      }
    }
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a) {
      METRIX_UNROLL
      for (int side = 0; side < 2; ++side) {
        const Cell<T> cell = takes(Sums::kSides, side) ? sums.of_warp(side, a) : Sums::nothing();
        if (threadIdx.x % kWarp == 0) warp_cells[threadIdx.x / kWarp][a][side] = cell;
      }
    }
    __syncthreads();
    if (threadIdx.x < 2 * kAnchors) {
      const int a = int(threadIdx.x) / 2, side = int(threadIdx.x) % 2;
      Cell<T> cell = Sums::nothing();
      for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp) cell = Sums::merge(cell, warp_cells[warp][a][side]);
      if (block.is_bad[a]) cell = {T(0), kNaN<T>};
      const int64_t anchor = block.anchor[a];
      if (anchor >= 0 && partial == nullptr) write_sum<Sums>(cell, anchor, side, args.rho, output);
      if (anchor >= 0 && partial != nullptr) partial[(blockIdx.y * args.anchors + anchor) * 2 + side] = cell;
    }
  }
}

// Adds up the strips in order.
template <class T, class Sums>
__global__ void __launch_bounds__(kPairThreads)
    merge_sums(int64_t anchors, int64_t strips, const Cell<T>* __restrict__ partial, const Rho rho,
               const PairSumsOutput<T> output) {
  const int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (k >= 2 * anchors) return;
  Cell<T> cell = Sums::nothing();
  for (int64_t strip = 0; strip < strips; ++strip) cell = Sums::merge(cell, partial[strip * 2 * anchors + k]);
  write_sum<Sums>(cell, k / 2, int(k % 2), rho, output);
}

}  // namespace metrix::cuda
