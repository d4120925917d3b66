// Which mixes an anchor uses, and which anchors share them: uses are sorted by example and examples by class, so the
// mixes of a class are one range of uses, which a block of threads walks for a few anchors of that class.
#pragma once

#include "anchor_sums.h"
#include "cuda/common/launch.h"
#include "cuda/common/warp.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kAnchorWarps = 1;
#else
constexpr int kAnchorWarps = 4;
#endif

// One mix as one anchor sees it.
template <class T>
struct AnchorTerm {
  bool is_used;
  T weight[2];

  // An anchor or mix of -1 has no term.
  __device__ __forceinline__ AnchorTerm(const AnchorSumsArgs<T>& args, int64_t anchor, int64_t mix) {
    T label = T(-1);
    if (anchor >= 0 && mix >= 0)
      label = mixed_label(args.relations, args.pairs, args.both_orders, anchor, args.mixes.first[mix],
                          args.mixes.second[mix], args.mixes.lambda[mix]);
    is_used = label != T(-1);
    weight[0] = is_used ? label : T(0);
    weight[1] = is_used ? T(1) - label : T(0);
  }
};

template <class T>
__device__ __forceinline__ T inverse_norm(const AnchorSumsArgs<T>& args, int64_t mix) {
  return args.inverse_norms == nullptr ? T(1) : args.inverse_norms[mix];
}

// Up to kSize anchors of one class, or any where no lists of them are given, and the mixes that some of them may use.
template <int kSize>
struct AnchorGroup {
  int64_t anchor;      // that of the lane modulo kSize, or -1
  int64_t begin, end;  // examples of the class
  int64_t first_use, uses;
  bool by_class;

  // The group of a block; false if the one of another block has this block's place.
  template <class T>
  __device__ __forceinline__ bool load(const AnchorSumsArgs<T>& args) {
    by_class = args.anchor_order != nullptr;
    const int a = int(threadIdx.x) % kSize;
    const int64_t* const positives = args.relations.positives;
    if (!by_class) {
      anchor = int64_t(blockIdx.x) * kSize + a;
      if (anchor >= args.relations.anchors) anchor = -1;
      begin = end = first_use = 0;
      uses = args.mixes.count;
      return true;
    }
    const int64_t place = blockIdx.x;
    begin = positives[2 * args.anchor_order[place]];
    // Anchors without positives may be among those of the class that begins where theirs would.
    const bool has_class = begin < args.mixes.examples;
    const int64_t first = has_class ? args.anchors_of[2 * begin] : place;
    const int64_t last = has_class ? args.anchors_of[2 * begin + 1] : place + 1;
    if ((place - first) % kSize != 0) return false;
    anchor = place + a < last ? args.anchor_order[place + a] : -1;
    end = anchor < 0 ? begin : positives[2 * anchor + 1];
    METRIX_UNROLL
    for (int lanes = kSize / 2; lanes > 0; lanes /= 2) {
      const int64_t other = __shfl_xor_sync(kAllLanes, end, lanes);
      end = other > end ? other : end;
    }
    first_use = args.mixes.begin[begin];
    uses = args.mixes.begin[end] - first_use;
    return true;
  }

  // The mix of a use, each mix once; -1 past the end.
  template <class T>
  __device__ __forceinline__ int64_t mix(const AnchorSumsArgs<T>& args, int64_t use) const {
    if (use >= uses) return -1;
    if (!by_class) return use;
    const int64_t which = args.mixes.uses[first_use + use];
    if (which < args.mixes.count) return which;
    const int64_t first = args.mixes.first[which - args.mixes.count];
    return begin <= first && first < end ? -1 : which - args.mixes.count;
  }
};

// ---- grids -----------------------------------------------------------------------------------------------------

// A block for each place that a group of anchors may begin at.
template <class T>
int64_t anchor_blocks(const AnchorSumsArgs<T>& args, int group) {
  return args.anchor_order != nullptr ? args.relations.anchors : ceil_div(args.relations.anchors, group);
}

// Of partial results in the workspace, at most.
constexpr int64_t kPartialBytes = int64_t(256) << 20;

// Into how many blocks the mixes of a group are split. A list may be a chunk of which one class has all mixes, and the
// others none, whose blocks leave at once: so many that one group alone has a block of enough mixes for every
// multiprocessor, as far as the partial results of all anchors fit.
template <class T>
int64_t anchor_splits(const AnchorSumsArgs<T>& args, int64_t partial_bytes) {
  constexpr int64_t kEnoughMixes = 512, kMost = 64;
  const int64_t fit = kPartialBytes / std::max<int64_t>(1, partial_bytes * args.relations.anchors);
  return std::max<int64_t>(1, std::min({args.mixes.count / kEnoughMixes, fit, kMost}));
}

}  // namespace metrix::cuda
