// A pair of examples (i, j), mixed, as some anchors see it: which pairs there are, the mix of one, and what of a pair a
// block of threads keeps in shared memory (rows i) and a thread in registers (its column j).
#pragma once

#include "class_groups.cuh"
#include "cuda/common/exp2.cuh"
#include "cuda/rho/rho.cuh"

namespace metrix::cuda {

// ---- which pairs ----------------------------------------------------------------------------------------------

// What a set of pairs takes as the first and as the second of a pair. Without a first the anchor itself is it.
struct PairSet {
  bool first_positive, second_positive;
  bool unordered;  // (i, j) only with i < j
  Sides sides;
};

__host__ __device__ __forceinline__ PairSet describe(Pairs pairs) {
  switch (pairs) {
    case Pairs::kPosNeg:
    case Pairs::kAncNeg:
      return {true, false, false, Sides::kBoth};
    case Pairs::kPosPos:
      return {true, true, true, Sides::kPositive};
    case Pairs::kAncPos:
      return {true, true, false, Sides::kPositive};
    default:
      return {false, false, true, Sides::kNegative};
  }
}

// The positives or the negatives of an anchor as columns. The anchor's own column may be among its positives:
// the callers leave it out, for it differs between anchors that share everything else.
template <class T>
class Candidates {
 public:
  __device__ __forceinline__ Candidates(const PairSumsArgs<T>& args, int64_t anchor, bool positive)
      : mask_(args.mask == nullptr ? nullptr : args.mask + anchor * args.examples),
        begin_(int(args.positives[2 * anchor])),
        end_(int(args.positives[2 * anchor + 1])),
        examples_(int(args.examples)),
        positive_(positive) {}

  __device__ __forceinline__ bool contains(int column) const {
    if (mask_ != nullptr) return mask_[column] == (positive_ ? 1 : -1);
    return (begin_ <= column && column < end_) == positive_;
  }

  // How many there are without this column.
  __device__ __forceinline__ int count_without(int self) const {
    int count = size();
    if (mask_ != nullptr) {
      count = 0;
#pragma unroll 1
      for (int column = 0; column < examples_; ++column) count += contains(column);
    }
    return count - int(self >= 0 && contains(self));
  }

  // Every candidate is column(p) of one p below size(); with a mask not every column(p) is a candidate.
  __device__ __forceinline__ int size() const {
    if (mask_ != nullptr) return examples_;
    return positive_ ? end_ - begin_ : examples_ - (end_ - begin_);
  }

  __device__ __forceinline__ int column(int p) const {
    if (mask_ != nullptr) return p;
    if (positive_) return begin_ + p;
    return p < begin_ ? p : p + (end_ - begin_);
  }

 private:
  const int8_t* mask_;
  int begin_, end_, examples_;
  bool positive_;
};

// Whether an anchor has a pair of a set within the examples. If it has, each of its firsts and seconds is of some pair.
template <class T>
__device__ __forceinline__ bool has_terms(const PairSumsArgs<T>& args, const PairSet& set, int64_t anchor) {
  const int self = int(args.self[anchor]);
  const int seconds = Candidates<T>(args, anchor, set.second_positive).count_without(self);
  return set.unordered ? seconds > 1
                       : seconds > 0 && Candidates<T>(args, anchor, set.first_positive).count_without(self) > 0;
}

// ---- the mix of a pair ----------------------------------------------------------------------------------------

template <class T>
struct Mix {
  T first, second;  // s(a, mix) = first s(a, i) + second s(a, j)
  T weight[2];      // of rho in the positive and the negative sum
};

// lambda and the inner product of a pair, loaded ahead of their use.
template <class T>
struct PairData {
  T lambda, gram;
};

// From the matrices by (first, second), or for the sets with the anchor by (anchor, second).
template <class T>
__device__ __forceinline__ PairData<T> load_pair(const PairSumsArgs<T>& args, int64_t at) {
  return {args.lambda[args.lambda_is_scalar ? 0 : at], args.renormalize ? args.gram[at] : T(0)};
}

// Forward what is not finite makes a term NaN, or is told by AnchorBlock. Backward it is some number: the sums of the
// anchors that have such terms are NaN already, and the others, to whom these terms give 0, must not get 0 times NaN.
enum class Pass { kForward, kBackward };

template <Pass pass, class T>
__device__ __forceinline__ T similarity_of(T s) {
  return pass == Pass::kForward || s - s == T(0) ? s : T(0);
}

template <Pass pass, class T>
__device__ __forceinline__ T inverse_norm(T square) {
  if constexpr (pass == Pass::kBackward) return inverse_square_root(larger_number(square, T(1e-24)));
  return fused(T(0), square, inverse_square_root(at_least(square, T(1e-24))));
}

template <Pass pass, class T>
__device__ __forceinline__ Mix<T> mix(const PairSumsArgs<T>& args, Sides sides, const PairData<T>& pair, T sqnorm_i,
                                      T sqnorm_j) {
  const T lambda = pair.lambda, mu = T(1) - lambda;
  Mix<T> m{lambda, mu, {T(1), T(1)}};
  if (sides == Sides::kBoth) {
    m.weight[0] = lambda;
    m.weight[1] = mu;
  }
  if (args.renormalize) {
    const T inverse = inverse_norm<pass>(mixed_square_norm(lambda, sqnorm_i, sqnorm_j, pair.gram));
    m.first *= inverse;
    m.second *= inverse;
  }
  return m;
}

// ---- rows i and columns j of a block --------------------------------------------------------------------------

constexpr int kStagedRows = kWarp;  // packed by one vote of a warp

constexpr unsigned kSkipAll = ~0u;  // all anchors of a block go without an example

// In shared memory: some firsts i of pairs, without the gaps between candidates.
template <class T, int kAnchors>
struct StagedRows {
  alignas(16) T similarity[kStagedRows][kAnchors];  // s(a, i); 0 where the anchor goes without
  T sqnorm[kStagedRows];
  int example[kStagedRows];         // i, ascending
  int64_t matrix_row[kStagedRows];  // i n: where its row of a matrix of pairs begins
  unsigned skip[kStagedRows];       // bits of anchors
  int count;

  // Those among the candidates [from, from + kStagedRows). All threads of the block call it.
  template <Pass pass>
  __device__ __forceinline__ void load(const PairSumsArgs<T>& args, const Candidates<T>& candidates, int from,
                                       AnchorBlock<kAnchors>& block) {
    __syncthreads();
    if (threadIdx.x < kWarp) {
      const int p = from + int(threadIdx.x);
      const int candidate = p < candidates.size() ? candidates.column(p) : -1;
      const bool is_first = candidate >= 0 && candidates.contains(candidate);
      const unsigned votes = __ballot_sync(kAllLanes, is_first);
      if (is_first) {
        const int at = votes_before(votes);
        example[at] = candidate;
        matrix_row[at] = candidate * args.examples;
        skip[at] = block.skip(candidate);
        sqnorm[at] = args.renormalize ? args.sqnorm[candidate * args.sqnorm_stride] : T(0);
      }
      if (threadIdx.x == 0) count = __popc(votes);
    }
    __syncthreads();
    for (int k = int(threadIdx.x); k < kStagedRows * kAnchors; k += int(blockDim.x)) {
      const int p = k % kStagedRows, a = k / kStagedRows;
      if (p >= count) continue;
      const bool used = !(skip[p] >> a & 1);
      const T s = used ? args.similarity[block.anchor[a] * args.examples + example[p]] : T(0);
      similarity[p][a] = similarity_of<pass>(s);
      if (!(s - s == T(0))) block.is_not_finite[a] = 1;
    }
    __syncthreads();
  }
};

// In registers: the second j of pairs that a thread owns. Where it is no candidate, the first column stands in for it,
// and all anchors skip its terms.
template <class T, int kAnchors>
struct OwnColumn {
  int example;    // j
  unsigned skip;  // bits of anchors, or kSkipAll
  T sqnorm;
  T similarity[kAnchors];  // s(a, j)

  template <Pass pass>
  __device__ __forceinline__ void load(const PairSumsArgs<T>& args, const Candidates<T>& candidates,
                                       const AnchorBlock<kAnchors>& block, int64_t at) {
    const bool is_candidate = at < args.examples && candidates.contains(int(at));
    example = is_candidate ? int(at) : 0;
    skip = is_candidate ? block.skip(example) : kSkipAll;
    sqnorm = args.renormalize ? args.sqnorm[example * args.sqnorm_stride] : T(0);
    METRIX_UNROLL
    for (int a = 0; a < kAnchors; ++a) {
      const T s = skip >> a & 1 ? T(0) : args.similarity[block.anchor[a] * args.examples + example];
      similarity[a] = similarity_of<pass>(s);
    }
  }
};

}  // namespace metrix::cuda
