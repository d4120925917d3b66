// pair_sums, backward, for the sets of pairs (i, j) within the examples: d loss / d s(a, x), and if mixes are
// renormalised the moments from which norms.cuh makes the gradients of the norms. A block of threads, for each of its
// groups of 8 anchors a of one class (in double precision 4):
//
//   index       as in forward.cuh                                                        class_groups.cuh, pair.cuh
//   load        what the terms of an anchor share                                        rho/exponential.cuh, of_anchor
//   for every 32 firsts i, for every 2 seconds j of this thread, for each of the firsts:
//     load, mix   as in forward.cuh                                                      pair.cuh
//     exponent    ds = d loss / d s(a, mix_ij), for 8 anchors                            rho/exponential.cuh, of_term
//     accumulate  what a term gives goes three ways (add_term):
//                   d s(a, j) += second ds     in registers of the thread that owns j
//                   d s(a, i) += first ds      over the threads: warp_sums(), then by warp in shared memory
//                   moment_ij += ds s          over the anchors, in place of d <x_i, x_j>
//   merge       row i of the warps (write_rows), strips of columns (norms.cuh, add_parts)
//
//                     thread 0     thread 1    ...  thread 255
//     seconds j       j_0  j_256   j_1  j_257       j_255 j_511     d s(a, j): down the columns, no exchange
//     first i = i_0    + -> + ---> + -> + ---> ... + -> +           d s(a, i): along the row, over 512 columns
//           i = i_1    + -> + ---> + -> + ---> ... + -> +           moment_ij: at every +, over anchors
#pragma once

#include <utility>

#include "forward.cuh"

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
constexpr int kGradientWarps = kGradientThreads / kWarp;

// Blocks on a multiprocessor: 65,536 registers / (2 * 256 threads) = 128 for a thread, of which similarities and
// gradients of 8 anchors and 2 columns are 32, and d s(a, i) 8. In double precision these take twice as many, and one
// block may use all 255.
template <class T>
constexpr int kGradientBlocks = sizeof(T) == 4 ? 2 : 1;

// Where the terms of one pair add to, for each anchor.
template <class T, int kAnchors>
struct PairGradients {
  T (&first)[kAnchors];   // d s(a, i)
  T (&second)[kAnchors];  // d s(a, j)
  T moment;
};

// Most pairs are used by all anchors, have weights that are not tiny, and no margin that their moment goes without:
// only the others are general.
template <bool kGeneral, class Gradient, int a, class T, int kAnchors>
__device__ __forceinline__ void add_term(const DeviceRho<T>& rho, const Mix<T>& m, T margin,
                                         const T (&similarity)[kAnchors], const OwnColumn<T, kAnchors>& column,
                                         const AnchorFactors<T> (&factors)[kAnchors], unsigned skip,
                                         PairGradients<T, kAnchors>& to) {
  const T s = mixed_similarity(m.first, m.second, similarity[a], column.similarity[a], margin);
  T ds = Gradient::template of_term<kGeneral, a>(rho, s, m.weight, factors[a]);
  if (kGeneral && (skip >> a & 1)) ds = T(0);
  to.first[a] += ds * m.first;
  to.second[a] += ds * m.second;
  to.moment += ds * (kGeneral ? s + margin : s);
}

template <bool kGeneral, class Gradient, class T, int kAnchors, int... a>
__device__ __forceinline__ void add_terms(const DeviceRho<T>& rho, const Mix<T>& m, T margin,
                                          const T (&similarity)[kAnchors], const OwnColumn<T, kAnchors>& column,
                                          const AnchorFactors<T> (&factors)[kAnchors], unsigned skip,
                                          PairGradients<T, kAnchors>& to, std::integer_sequence<int, a...>) {
  (add_term<kGeneral, Gradient, a>(rho, m, margin, similarity, column, factors, skip, to), ...);
}

// In shared memory: d s(a, i) of the staged rows, by warp.
template <class T, int kAnchors>
using RowGradients = T[kStagedRows][kGradientWarps][kAnchors];

// Adds d s(a, i) of the staged rows to the rows of the anchors, [m, n].
template <class T, int kAnchors>
__device__ __forceinline__ void write_rows(const AnchorBlock<kAnchors>& block, const StagedRows<T, kAnchors>& rows,
                                           const RowGradients<T, kAnchors>& row_gradients, T* similarity_gradient,
                                           int64_t n) {
  for (int k = int(threadIdx.x); k < kStagedRows * kAnchors; k += int(blockDim.x)) {
    const int p = k % kStagedRows, a = k / kStagedRows;
    if (p >= rows.count || block.anchor[a] < 0) continue;
    T total = T(0);
    for (int w = 0; w < int(blockDim.x) / kWarp; ++w) total += row_gradients[p][w][a];
    similarity_gradient[block.anchor[a] * n + rows.example[p]] += total;
  }
}

// The anchors that go without row p and each column. Returns whether these are all, for the rest of the rows, too.
template <class T, int kAnchors, int kColumns>
__device__ __forceinline__ bool skip_of_row(const StagedRows<T, kAnchors>& rows, int p,
                                            const OwnColumn<T, kAnchors> (&columns)[kColumns], bool unordered,
                                            unsigned (&skip)[kColumns]) {
  bool is_over = unordered;  // rows ascend: none of the rest comes before these columns
  METRIX_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const bool is_pair = !unordered || columns[c].example > rows.example[p];
    skip[c] = is_pair ? rows.skip[p] | columns[c].skip : kSkipAll;
    is_over = is_over && !is_pair;
  }
  return is_over;
}

// Zeros in the rows of the anchors, [m, n], but for the seconds if these are written.
template <class T, int kAnchors>
__device__ __forceinline__ void clear_rows(const AnchorBlock<kAnchors>& block, const Candidates<T>& seconds,
                                           bool writes_seconds, T* similarity_gradient, int64_t n) {
  for (int a = 0; a < kAnchors; ++a)
    if (block.anchor[a] >= 0)
      for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        if (!writes_seconds || !seconds.contains(int(j))) similarity_gradient[block.anchor[a] * n + j] = T(0);
}

// Writes to a place that nobody has written yet, or adds to what is there.
template <class T>
__device__ __forceinline__ void put(T* at, T value, bool overwrites) {
  *at = overwrites ? value : *at + value;
}

// Block x owns the anchors of some places, block y some columns j; y has a matrix of gradients of its own, which
// add_parts adds up if there are several. moments is null, or the block's anchors are whole groups, which then own
// the rows of their firsts (what no group owns has been cleared).
template <class T, int kAnchors, RhoGradient<T> Gradient>
__global__ void __launch_bounds__(kGradientThreads, kGradientBlocks<T>)
    pair_gradients(const PairSumsArgs<T> args, const DeviceRho<T> rho, const PairSumsGradient<T> gradient,
                   const ClassGroups groups,
                   T* strip_gradients,  // [strips, m, n]
                   T* moments) {        // [n, n], of which there are args.rows rows, or null
  constexpr int kColumns = kColumnsPerThread<T, kAnchors>;
  constexpr int kLanesPerAnchor = kWarp / kAnchors;
  __shared__ AnchorBlock<kAnchors> block;
  __shared__ StagedRows<T, kAnchors> rows;
  __shared__ AnchorFactors<T> factors[kAnchors];
  __shared__ RowGradients<T, kAnchors> row_gradients;
  const PairSet set = describe(args.pairs);
  const bool moments_have_margins = moments != nullptr && rho.margin_range != T(0);
  const int64_t n = args.examples;
  const int places = int(args.anchors), per_block = (places - 1) / int(gridDim.x) + 1;
  const int first_place = int(blockIdx.x) * per_block;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  T* const similarity_gradient = strip_gradients + blockIdx.y * args.anchors * n;

  for (int leader = first_place; leader < places && leader < first_place + per_block; ++leader) {
    if (!groups.begins_block(leader, moments == nullptr ? kAnchors : places)) continue;
    for (int place = leader; place < places && groups.group(place) == groups.group(leader); place += kAnchors) {
      if (moments == nullptr && place != leader) break;
      block.load(args, groups, place);
      if (threadIdx.x < kAnchors && block.anchor[threadIdx.x] >= 0)
        factors[threadIdx.x] = Gradient::of_anchor(args.rho, gradient, block.anchor[threadIdx.x]);
      const Candidates<T> firsts(args, block.anchor[0], set.first_positive);
      const Candidates<T> seconds(args, block.anchor[0], set.second_positive);
      // What is a second and never a first is written, not added to, unless another strip does that.
      const bool writes_seconds = !set.unordered && gridDim.y == 1;
      clear_rows(block, seconds, writes_seconds, similarity_gradient, n);

      int from = 0;
      do {
        rows.template load<Pass::kBackward>(args, firsts, from, block);
        for (int k = int(threadIdx.x); k < kStagedRows * kGradientWarps * kAnchors; k += int(blockDim.x))
          (&row_gradients[0][0][0])[k] = T(0);
        __syncthreads();
        const int64_t width = int64_t(blockDim.x) * kColumns;
        for (int64_t strip = blockIdx.y; strip * width < n; strip += gridDim.y) {
          OwnColumn<T, kAnchors> columns[kColumns];
          PairData<T> next[kColumns] = {};
          T column_gradients[kColumns][kAnchors];
          bool is_idle = true;
          METRIX_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            columns[c].template load<Pass::kBackward>(args, seconds, block,
                                                      strip * width + c * blockDim.x + threadIdx.x);
            is_idle = is_idle && columns[c].skip == kSkipAll;
            if (rows.count > 0) next[c] = load_pair(args, rows.matrix_row[0] + columns[c].example);
            METRIX_UNROLL
            for (int a = 0; a < kAnchors; ++a) column_gradients[c][a] = T(0);
          }
          if (__all_sync(kAllLanes, is_idle)) continue;
          for (int p = 0; p < rows.count; ++p) {
            unsigned skip[kColumns];
            const bool is_over = skip_of_row(rows, p, columns, set.unordered, skip);
            if (set.unordered && __all_sync(kAllLanes, is_over)) break;
            T row_gradient[kAnchors] = {};
            METRIX_UNROLL
            for (int c = 0; c < kColumns; ++c) {
              const PairData<T> pair = next[c];
              if (p + 1 < rows.count) next[c] = load_pair(args, rows.matrix_row[p + 1] + columns[c].example);
              const Mix<T> m = mix<Pass::kBackward>(args, Gradient::kSides, pair, rows.sqnorm[p], columns[c].sqnorm);
              const T margin = margin_of(rho, m.weight, Gradient::kSides);
              PairGradients<T, kAnchors> to{row_gradient, column_gradients[c], T(0)};
              constexpr std::make_integer_sequence<int, kAnchors> kEach{};
              if (skip[c] != 0 || !Gradient::is_safe(m.weight) || moments_have_margins)
                add_terms<true, Gradient>(rho, m, margin, rows.similarity[p], columns[c], factors, skip[c], to, kEach);
              else
                add_terms<false, Gradient>(rho, m, margin, rows.similarity[p], columns[c], factors, 0, to, kEach);
              if (moments != nullptr && skip[c] != kSkipAll) {
                T* const at = moments + (rows.matrix_row[p] + columns[c].example);
                put(at, to.moment, place == leader);
              }
            }
            const T of_warp = warp_sums(row_gradient);
            if (lane % kLanesPerAnchor == 0) row_gradients[p][warp][lane / kLanesPerAnchor] += of_warp;
          }
          METRIX_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            if (columns[c].skip == kSkipAll) continue;
            METRIX_UNROLL
            for (int a = 0; a < kAnchors; ++a) {
              if (block.anchor[a] < 0) continue;
              T* const at = similarity_gradient + block.anchor[a] * n + columns[c].example;
              put(at, column_gradients[c][a], writes_seconds && from == 0);
            }
          }
        }
        __syncthreads();
        write_rows(block, rows, row_gradients, similarity_gradient, n);
        from += kStagedRows;
      } while (from < firsts.size());
    }
  }
}

}  // namespace metrix::cuda
