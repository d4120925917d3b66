// How anchor_sums is cut into blocks, and where its partial results lie. All of it follows from the shapes alone, so
// that a captured graph stays right when the data changes.
#pragma once

#include "anchor_sums.h"
#include "cuda/common/plan.h"

namespace metrix::cuda {

// A block for each place that a group of anchors may begin at.
template <class T>
int64_t anchor_blocks(const AnchorSumsArgs<T>& args, int group) {
  return args.anchor_order != nullptr ? args.relations.anchors : ceil_div(args.relations.anchors, group);
}

// Into how many blocks the mixes of a group are split: enough for a large device, as long as each has a few dozen.
// The number of classes is data; the mixes of an example, four times as many, stand for those of a class.
template <class T>
int64_t anchor_splits(const AnchorSumsArgs<T>& args, int group) {
  constexpr int64_t kEnoughBlocks = 4096, kFewMixes = 64, kMost = 64;
  const int64_t blocks = std::max<int64_t>(1, anchor_blocks(args, group));
  const int64_t mixes = args.anchor_order == nullptr ? args.mixes.count
                                                     : 8 * args.mixes.count / std::max<int64_t>(1, args.mixes.examples);
  return std::clamp<int64_t>(std::min(ceil_div(kEnoughBlocks, blocks), mixes / kFewMixes), 1, kMost);
}

}  // namespace metrix::cuda
