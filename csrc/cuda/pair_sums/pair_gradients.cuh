// The sets of pairs within the examples, backward: everything is computed again as in pairs.cuh, and what a term
// gives goes three ways. To s(a, j) in the registers of the thread that owns j; to s(a, i) through a sum over the
// threads; to the moment ds * s of the pair (i, j), summed over anchors, from which the gradients of the norms
// follow.
#pragma once

#include "pairs.cuh"
#include "cuda/sums/slopes.cuh"

namespace metrix::cuda {

// Columns of a thread: the sum over threads is paid once for all of them.
#ifdef METRIX_TINY_BLOCKS
constexpr int kGradientThreads = 32;
template <class T, int kAnchors>
constexpr int kColumnsPerThread = 1;
#else
constexpr int kGradientThreads = 256;
template <class T, int kAnchors>
constexpr int kColumnsPerThread = kAnchors == 1 ? 4 : 2;
#endif

// On a multiprocessor, as far as registers allow.
template <class T>
constexpr int kGradientBlocks = sizeof(T) == 4 ? 2 : 1;

// Sums each of several values over a warp, halving their number with every exchange. Lane l gets that of index
// l / (32 / kValues).
template <class T, int kValues>
__device__ __forceinline__ T warp_sums(T (&values)[kValues]) {
  const int lane = int(threadIdx.x) % kWarp;
  int distance = kWarp / 2;
  METRIX_UNROLL
  for (int half = kValues / 2; half > 0; half /= 2) {
    const bool upper = (lane & distance) != 0;
    METRIX_UNROLL
    for (int k = 0; k < half; ++k) {
      const T given = upper ? values[k] : values[k + half];
      const T kept = upper ? values[k + half] : values[k];
      values[k] = kept + __shfl_xor_sync(kAllLanes, given, distance);
    }
    distance /= 2;
  }
  METRIX_UNROLL
  for (int lanes = kWarp / 2 / kValues; lanes > 0; lanes /= 2)
    values[0] += __shfl_xor_sync(kAllLanes, values[0], lanes);
  return values[0];
}

// Where the terms of one pair add to, for each anchor.
template <class T, int kAnchors>
struct PairGradients {
  T (&first)[kAnchors];
  T (&second)[kAnchors];
  T moment;
};

template <bool kSkips, class Slope, int a, class T, int kAnchors>
__device__ __forceinline__ void add_term(const Scales<T>& rho, const Mix<T>& m, const T (&similarity)[kAnchors],
                                         const Second<T, kAnchors>& second, const AnchorTerms<T> (&terms)[kAnchors],
                                         unsigned without, PairGradients<T, kAnchors>& to) {
  const T s = mixed_similarity(m.first, m.second, similarity[a], second.similarity[a]);
  T ds = Slope::template of_term<kSkips, a>(rho, s, m.weight, terms[a]);
  if (kSkips && (without >> a & 1)) ds = T(0);
  to.first[a] += ds * m.first;
  to.second[a] += ds * m.second;
  to.moment += ds * s;
}

template <bool kSkips, class Slope, class T, int kAnchors, int... a>
__device__ __forceinline__ void add_terms(const Scales<T>& rho, const Mix<T>& m, const T (&similarity)[kAnchors],
                                          const Second<T, kAnchors>& second, const AnchorTerms<T> (&terms)[kAnchors],
                                          unsigned without, PairGradients<T, kAnchors>& to,
                                          std::integer_sequence<int, a...>) {
  (add_term<kSkips, Slope, a>(rho, m, similarity, second, terms, without, to), ...);
}

// Block x owns the anchors of some places, block y some columns j; y has a matrix of gradients of its own, which
// add_strips adds up if there are several. moments is null, or the block's anchors are whole groups, which then own
// the rows of their firsts (what no group owns has been cleared).
template <class T, int kAnchors, class Slope>
__global__ void __launch_bounds__(kGradientThreads, kGradientBlocks<T>)
    pair_gradients(const PairSumsArgs<T> args, const Scales<T> rho, const PairSumsGradient<T> gradient,
                   const Groups groups, T* strip_gradients, T* moments) {
  constexpr int kColumns = kColumnsPerThread<T, kAnchors>;
  constexpr int kWarps = kGradientThreads / kWarp;
  __shared__ AnchorBlock<kAnchors> block;
  __shared__ Firsts<T, kAnchors> firsts;
  __shared__ AnchorTerms<T> terms[kAnchors];
  __shared__ T first_gradients[kFirsts][kWarps][kAnchors];
  const PairSet set = describe(args.pairs);
  const int64_t n = args.examples;
  const int places = int(args.anchors), per_block = (places - 1) / int(gridDim.x) + 1;
  const int first_place = int(blockIdx.x) * per_block;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  T* const rows = strip_gradients + blockIdx.y * args.anchors * n;

  for (int leader = first_place; leader < places && leader < first_place + per_block; ++leader) {
    if (!groups.leads(leader, moments == nullptr ? kAnchors : places)) continue;
    for (int place = leader; place < places && groups.group(place) == groups.group(leader); place += kAnchors) {
      if (moments == nullptr && place != leader) break;
      block.load(args, groups, place);
      if (threadIdx.x < kAnchors && block.anchor[threadIdx.x] >= 0)
        terms[threadIdx.x] = Slope::of_anchor(args.rho, gradient, block.anchor[threadIdx.x]);
      const Candidates<T> first_candidates(args, block.anchor[0], set.first_positive);
      const Candidates<T> second_candidates(args, block.anchor[0], set.second_positive);
      // What is a second and never a first is written, not added to, unless another strip does that.
      const bool writes_seconds = !set.unordered && gridDim.y == 1;
      for (int a = 0; a < kAnchors; ++a)
        if (block.anchor[a] >= 0)
          for (int64_t c = threadIdx.x; c < n; c += blockDim.x)
            if (!writes_seconds || !second_candidates.contains(int(c))) rows[block.anchor[a] * n + c] = T(0);

      int from = 0;
      do {
        firsts.load(args, first_candidates, from, block);
        for (int k = int(threadIdx.x); k < kFirsts * kWarps * kAnchors; k += int(blockDim.x))
          (&first_gradients[0][0][0])[k] = T(0);
        __syncthreads();
        const int64_t width = int64_t(blockDim.x) * kColumns;
        for (int64_t strip = blockIdx.y; strip * width < n; strip += gridDim.y) {
          Second<T, kAnchors> second[kColumns];
          PairData<T> next[kColumns] = {};
          T second_gradients[kColumns][kAnchors];
          bool is_idle = true;
          METRIX_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            second[c].load(args, second_candidates, block, strip * width + c * blockDim.x + threadIdx.x);
            is_idle = is_idle && second[c].without == kNobody;
            if (firsts.count > 0) next[c] = load_pair(args, firsts.row[0] + second[c].column);
            METRIX_UNROLL
            for (int a = 0; a < kAnchors; ++a) second_gradients[c][a] = T(0);
          }
          if (__all_sync(kAllLanes, is_idle)) continue;
          for (int p = 0; p < firsts.count; ++p) {
            unsigned without[kColumns];
            bool is_over = set.unordered;  // firsts ascend: none of the rest comes before these seconds
            METRIX_UNROLL
            for (int c = 0; c < kColumns; ++c) {
              const bool is_pair = !set.unordered || second[c].column > firsts.column[p];
              without[c] = is_pair ? firsts.without[p] | second[c].without : kNobody;
              is_over = is_over && !is_pair;
            }
            if (set.unordered && __all_sync(kAllLanes, is_over)) break;
            T first_gradient[kAnchors] = {};
            METRIX_UNROLL
            for (int c = 0; c < kColumns; ++c) {
              const PairData<T> pair = next[c];
              if (p + 1 < firsts.count) next[c] = load_pair(args, firsts.row[p + 1] + second[c].column);
              const Mix<T> m = mix(args, Slope::kSides, pair, firsts.sqnorm[p], second[c].sqnorm);
              PairGradients<T, kAnchors> to{first_gradient, second_gradients[c], T(0)};
              constexpr std::make_integer_sequence<int, kAnchors> kEach{};
              if (without[c] != 0 || !Slope::is_safe(m.weight))
                add_terms<true, Slope>(rho, m, firsts.similarity[p], second[c], terms, without[c], to, kEach);
              else
                add_terms<false, Slope>(rho, m, firsts.similarity[p], second[c], terms, 0, to, kEach);
              if (moments != nullptr && without[c] != kNobody) {
                T* const at = moments + (firsts.row[p] + second[c].column);
                *at = place == leader ? to.moment : *at + to.moment;
              }
            }
            const T of_warp = warp_sums(first_gradient);
            if (lane % (kWarp / kAnchors) == 0) first_gradients[p][warp][lane / (kWarp / kAnchors)] += of_warp;
          }
          METRIX_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            if (second[c].without == kNobody) continue;
            METRIX_UNROLL
            for (int a = 0; a < kAnchors; ++a) {
              if (block.anchor[a] < 0) continue;
              T* const at = rows + block.anchor[a] * n + second[c].column;
              *at = writes_seconds && from == 0 ? second_gradients[c][a] : *at + second_gradients[c][a];
            }
          }
        }
        __syncthreads();
        for (int k = int(threadIdx.x); k < kFirsts * kAnchors; k += int(blockDim.x)) {
          const int p = k % kFirsts, a = k / kFirsts;
          if (p >= firsts.count || block.anchor[a] < 0) continue;
          T total = T(0);
          for (int w = 0; w < int(blockDim.x) / kWarp; ++w) total += first_gradients[p][w][a];
          rows[block.anchor[a] * n + firsts.column[p]] += total;
        }
        from += kFirsts;
      } while (from < first_candidates.size());
    }
  }
}

// The moments of a row of pairs where anchors of several groups use it (neg-neg, masks): block x owns the first i,
// block y some columns j, and all anchors that have i among their firsts pass by.
template <class T, class Slope>
__global__ void __launch_bounds__(kPairThreads, 5)
    pair_moments(const PairSumsArgs<T> args, const Scales<T> rho, const PairSumsGradient<T> gradient, T* moments) {
  __shared__ AnchorTerms<T> terms[kWarp];
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
    m = mix(args, Slope::kSides, load_pair(args, i * n + j),
            args.renormalize ? args.sqnorm[i * args.sqnorm_stride] : T(0),
            args.renormalize ? args.sqnorm[j * args.sqnorm_stride] : T(0));
  T moment = T(0);
  for (int64_t from = 0; from < args.anchors; from += kWarp) {
    __syncthreads();
    if (threadIdx.x < kWarp) {
      const int64_t anchor = from + threadIdx.x;
      const bool uses = anchor < args.anchors && args.self[anchor] != i &&
                        Candidates<T>(args, anchor, set.first_positive).contains(i);
      const unsigned votes = __ballot_sync(kAllLanes, uses);
      if (uses) {
        const int at = __popc(votes & ((1u << threadIdx.x) - 1));
        anchors[at] = int(anchor);
        similarity[at] = args.similarity[anchor * n + i];
        terms[at] = Slope::of_anchor(args.rho, gradient, anchor);
      }
      if (threadIdx.x == 0) count = __popc(votes);
    }
    __syncthreads();
    if (!is_column) continue;
    for (int p = 0; p < count; ++p) {
      const int64_t anchor = anchors[p];
      if (args.self[anchor] == j || !Candidates<T>(args, anchor, set.second_positive).contains(int(j))) continue;
      const T s = mixed_similarity(m.first, m.second, similarity[p], args.similarity[anchor * n + j]);
      moment += Slope::template of_term<true, 0>(rho, s, m.weight, terms[p]) * s;
    }
  }
  if (j < n) moments[i * n + j] = moment;
}

}  // namespace metrix::cuda
