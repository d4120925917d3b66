// What the threads of a block share: a few anchors with equal relations, and the firsts of their pairs, some at a
// time.
#pragma once

#include "mix.cuh"

namespace metrix::cuda {

// Anchors that share what a pair costs once. More would need more registers than a thread has.
template <class T>
constexpr int kAnchorsPerBlock = sizeof(T) == 4 ? 8 : 4;

constexpr int kFirsts = kWarp;  // packed by one vote of a warp

constexpr unsigned kNobody = ~0u;  // all anchors of a block go without a candidate

template <int kAnchors>
struct AnchorBlock {
  int anchor[kAnchors];  // -1 where the group ends before the block does
  int self[kAnchors];
  int is_bad[kAnchors];  // something that the sums depend on is not finite

  // The anchors from a place on, as far as its group goes. All threads of the block call it.
  template <class T>
  __device__ __forceinline__ void load(const PairSumsArgs<T>& args, const Groups& groups, int place) {
    __syncthreads();  // nobody reads the ones before any more
    if (threadIdx.x < kAnchors) {
      const int other = place + int(threadIdx.x);
      const bool here = other == place || (other < args.anchors && groups.group(other) == groups.group(place));
      anchor[threadIdx.x] = here ? groups.anchor(other) : -1;
      self[threadIdx.x] = here ? int(args.self[groups.anchor(other)]) : -1;
      is_bad[threadIdx.x] = 0;
    }
    __syncthreads();
  }

  // Bits of the anchors that an example is no candidate for although it is one for the group: the anchor itself, and
  // those that are missing.
  __device__ __forceinline__ unsigned without(int column) const {
    unsigned bits = 0;
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a) bits |= unsigned(anchor[a] < 0 || self[a] == column) << a;
    return bits;
  }
};

template <class T, int kAnchors>
struct Firsts {
  alignas(16) T similarity[kFirsts][kAnchors];  // 0 where the anchor goes without
  T sqnorm[kFirsts];
  int column[kFirsts];
  int64_t row[kFirsts];  // where its row of a matrix of pairs begins
  unsigned without[kFirsts];
  int count;

  // Those among the candidates [from, from + kFirsts). All threads of the block call it.
  __device__ __forceinline__ void load(const PairSumsArgs<T>& args, const Candidates<T>& candidates, int from,
                                       AnchorBlock<kAnchors>& block) {
    __syncthreads();
    if (threadIdx.x < kWarp) {
      const int p = from + int(threadIdx.x);
      const int candidate = p < candidates.size() ? candidates.column(p) : -1;
      const bool is_first = candidate >= 0 && candidates.contains(candidate);
      const unsigned votes = __ballot_sync(kAllLanes, is_first);
      if (is_first) {
        const int at = __popc(votes & ((1u << threadIdx.x) - 1));
        column[at] = candidate;
        row[at] = candidate * args.examples;
        without[at] = block.without(candidate);
        sqnorm[at] = args.renormalize ? args.sqnorm[candidate * args.sqnorm_stride] : T(0);
      }
      if (threadIdx.x == 0) count = __popc(votes);
    }
    __syncthreads();
    for (int k = int(threadIdx.x); k < kFirsts * kAnchors; k += int(blockDim.x)) {
      const int p = k % kFirsts, a = k / kFirsts;
      if (p >= count) continue;
      const bool used = !(without[p] >> a & 1);
      const T s = used ? args.similarity[block.anchor[a] * args.examples + column[p]] : T(0);
      similarity[p][a] = s;
      if (!(s - s == T(0))) block.is_bad[a] = 1;
    }
    __syncthreads();
  }
};

// One thread's column j for the anchors of a block. Where it is no candidate, it stands for the first column, whose
// terms nobody uses.
template <class T, int kAnchors>
struct Second {
  int column;
  unsigned without;
  T sqnorm;
  T similarity[kAnchors];

  __device__ __forceinline__ void load(const PairSumsArgs<T>& args, const Candidates<T>& candidates,
                                       const AnchorBlock<kAnchors>& block, int64_t at) {
    const bool is_candidate = at < args.examples && candidates.contains(int(at));
    column = is_candidate ? int(at) : 0;
    without = is_candidate ? block.without(column) : kNobody;
    sqnorm = args.renormalize ? args.sqnorm[column * args.sqnorm_stride] : T(0);
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a)
      similarity[a] = without >> a & 1 ? T(0) : args.similarity[block.anchor[a] * args.examples + column];
  }
};

}  // namespace metrix::cuda
