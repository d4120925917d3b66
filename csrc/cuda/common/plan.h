// How a call is cut into blocks, and where its partial results lie. All of it follows from the shapes alone, so that
// a captured graph stays right when the data changes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "pair_sums.h"

namespace metrix::cuda {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As many threads as there are columns, in whole warps, up to a limit.
inline int threads_for(int64_t columns, int limit) {
  return int(std::max<int64_t>(32, std::min<int64_t>(limit, ceil_div(columns, 32) * 32)));
}

inline bool is_within_examples(Pairs pairs) {
  return pairs == Pairs::kPosNeg || pairs == Pairs::kPosPos || pairs == Pairs::kNegNeg;
}

// Anchors and columns are counted in int on the device, elements of matrices in int64_t.
template <class T>
void check_sizes(const PairSumsArgs<T>& args) {
  constexpr int64_t kMost = std::numeric_limits<int>::max() - 1024;
  if (args.anchors > kMost || args.examples > kMost)
    throw std::invalid_argument("metrix_ext, CUDA: anchors and examples must each be fewer than 2^31 - 1024");
}

// Hands out pieces of the workspace; without one it only counts.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  template <class U>
  U* take(int64_t count) {
    U* const piece = base_ == nullptr ? nullptr : reinterpret_cast<U*>(base_ + used_);
    used_ += ceil_div(count * int64_t(sizeof(U)), 256) * 256;
    return piece;
  }

  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// Blocks over the places of the anchors: enough for one per full block of anchors, and for few anchors one for each
// of them, as they may be all of different classes.
inline unsigned blocks_over_anchors(int64_t anchors, int anchors_per_block) {
  constexpr int64_t kFew = 1024;
  const int64_t full = ceil_div(anchors, anchors_per_block);
  return unsigned(std::max<int64_t>(1, std::min(anchors, std::max(full, kFew))));
}

}  // namespace metrix::cuda
