// Who is positive and who negative for whom, and which anchors share that.
#pragma once

#include "cuda/sums/sums.cuh"

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
// order where its group begins. Anchors that are the examples are in such an order, and the ranges say where a group
// begins. Only null pointers: every anchor for itself, as with a mask.
struct Groups {
  int* order;
  int* begin;
  const int64_t* ranges;

  __device__ __forceinline__ int anchor(int place) const { return order == nullptr ? place : order[place]; }
  __device__ __forceinline__ int group(int place) const {
    if (ranges != nullptr) return int(ranges[2 * place]);
    return begin == nullptr ? place : begin[place];
  }
  // Whether a block of anchors begins here, when groups are cut into blocks of a size.
  __device__ __forceinline__ bool leads(int place, int size) const { return (place - group(place)) % size == 0; }
};

}  // namespace metrix::cuda
