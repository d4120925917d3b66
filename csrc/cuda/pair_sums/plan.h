// How a call of pair_sums is cut into blocks.
#pragma once

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "cuda/common/launch.h"
#include "pair_sums.h"

namespace metrix::cuda {

// The sets of pairs (i, j) of two examples; in the others each anchor and example is one term (per_example.cuh).
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

// Blocks over the places of the anchors: enough for one per full block of anchors, and for few anchors one for each
// of them, as they may be all of different classes.
inline unsigned blocks_over_anchors(int64_t anchors, int anchors_per_block) {
  constexpr int64_t kFew = 1024;
  const int64_t full = ceil_div(anchors, anchors_per_block);
  return unsigned(std::max<int64_t>(1, std::min(anchors, std::max(full, kFew))));
}

}  // namespace metrix::cuda
