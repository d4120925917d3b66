// Who is positive and who negative for whom, and which anchors share that.
#pragma once

#include "sums.cuh"

namespace metrix::cuda {

// What a set of pairs takes as the first and as the second of a pair. Without a first the anchor itself is it.
struct PairSet {
  bool first_positive, second_positive;
  bool unordered;
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

// The anchors in an order in which those with the same range of positives are neighbours, and for every place in that
// order where its group begins. Null pointers: every anchor for itself, as with a mask.
struct Groups {
  int* order;
  int* begin;

  __device__ __forceinline__ int anchor(int place) const { return order == nullptr ? place : order[place]; }
  __device__ __forceinline__ int group(int place) const { return begin == nullptr ? place : begin[place]; }
  // Whether a block of anchors begins here, when groups are cut into blocks of a size.
  __device__ __forceinline__ bool leads(int place, int size) const { return (place - group(place)) % size == 0; }
};

constexpr int kGroupThreads = 256;

// Sorts by counting: the place of an anchor is the number of those before it. Quadratic in the anchors, but with a
// constant that vanishes beside the sums of as many anchors over pairs. Fills cleared with zeros on the way.
template <class T>
__global__ void __launch_bounds__(kGroupThreads) group_anchors(const int64_t* __restrict__ positives, int64_t anchors,
                                                               Groups groups, T* cleared, int64_t cleared_size) {
  __shared__ int64_t begins[kGroupThreads], ends[kGroupThreads];
  const int64_t threads = int64_t(gridDim.x) * kGroupThreads;
  const int64_t me = int64_t(blockIdx.x) * kGroupThreads + threadIdx.x;
  for (int64_t k = me; k < cleared_size; k += threads) cleared[k] = T(0);
  if (int64_t(blockIdx.x) * kGroupThreads >= anchors) return;
  const int64_t my_begin = me < anchors ? positives[2 * me] : 0, my_end = me < anchors ? positives[2 * me + 1] : 0;
  int before = 0, equal_before = 0;
  for (int64_t tile = 0; tile < anchors; tile += kGroupThreads) {
    __syncthreads();
    if (tile + threadIdx.x < anchors) {
      begins[threadIdx.x] = positives[2 * (tile + threadIdx.x)];
      ends[threadIdx.x] = positives[2 * (tile + threadIdx.x) + 1];
    }
    __syncthreads();
    const int size = int(anchors - tile < kGroupThreads ? anchors - tile : kGroupThreads);
    for (int k = 0; k < size; ++k) {
      const bool same = begins[k] == my_begin && ends[k] == my_end;
      before += begins[k] < my_begin || (begins[k] == my_begin && ends[k] < my_end);
      equal_before += same && tile + k < me;
    }
  }
  if (me < anchors) {
    groups.order[before + equal_before] = int(me);
    groups.begin[before + equal_before] = before;
  }
}

}  // namespace metrix::cuda
