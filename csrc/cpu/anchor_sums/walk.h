// The walk by anchors, those of a class together: tiles of the mixes that they use, the similarities of a tile, and a
// row of terms for each anchor, given to a pass (SumPass in anchor_sums.cpp, GradientPass in
// anchor_sums_backward.cpp). Both passes take the similarities anew.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/common/parallel.h"
#include "cpu/common/sizes.h"
#include "cpu/loops/products.h"
#include "cpu/loops/rows.h"
#include "mixes_of_anchor.h"

namespace metrix::cpu {

// Four rows of the loops: long enough that a row's call is cheap beside its terms, and the similarities of
// kAnchorsTogether anchors are 4 KB of floats.
constexpr int64_t kMixesPerTile = 4 * kRowPad;

// The mixes of a tile that an anchor of a group uses, and the labels that they have for each.
template <class T>
struct MixTile {
  int64_t size = 0;
  int64_t mixes[kMixesPerTile];
  T labels[kAnchorsTogether][kMixesPerTile];
};

// Memory of one thread.
template <class T>
struct AnchorScratch {
  MixTile<T> tile;
  T similarity[kAnchorsTogether][kMixesPerTile];
  T positive_weight[kMixesPerTile], negative_weight[kMixesPerTile];
  T terms[kMixesPerTile];                // of forward
  T similarity_gradient[kMixesPerTile];  // of backward
};

// A pass has add(anchor, labels, row, finite): the terms of an anchor with the mixes of the scratch's tile, and whether
// all of them are finite.
template <class T, class Pass>
class AnchorWalk {
 public:
  AnchorWalk(const AnchorSumsArgs<T>& args, AnchorScratch<T>& scratch, Pass& pass)
      : args_(args), mixes_(args), scratch_(scratch), pass_(pass) {}

  void group(const int64_t* anchors, int64_t count) {
    MixTile<T>& tile = scratch_.tile;
    tile.size = 0;
    mixes_.for_each_mix(anchors[0], [&](int64_t p) {
      bool used = false;
      for (int64_t k = 0; k < count; ++k) {
        tile.labels[k][tile.size] = mixes_.label(anchors[k], p);
        used |= tile.labels[k][tile.size] != T(-1);
      }
      if (!used) return;
      tile.mixes[tile.size] = p;
      if (++tile.size == kMixesPerTile) {
        take_tile(anchors, count);
        tile.size = 0;
      }
    });
    if (tile.size > 0) take_tile(anchors, count);
  }

 private:
  void take_tile(const int64_t* anchors, int64_t count) {
    const MixTile<T>& tile = scratch_.tile;
    const T* anchor_rows[kAnchorsTogether] = {};
    const T* mix_rows[kMixesPerTile] = {};
    for (int64_t k = 0; k < count; ++k) anchor_rows[k] = args_.anchors + anchors[k] * args_.size;
    for (int64_t t = 0; t < tile.size; ++t) mix_rows[t] = z_ + tile.mixes[t] * args_.size;
    products_.dots(args_.size, anchor_rows, count, mix_rows, tile.size, scratch_.similarity[0], kMixesPerTile);
    for (int64_t k = 0; k < count; ++k) take_anchor(anchors[k], tile.labels[k], scratch_.similarity[k]);
  }

  void take_anchor(int64_t anchor, const T* labels, T* similarity) {
    const MixTile<T>& tile = scratch_.tile;
    bool finite = true;
    for (int64_t t = 0; t < kMixesPerTile; ++t) {
      const bool used = t < tile.size && labels[t] != T(-1);
      similarity[t] = used ? similarity[t] * mixes_.inverse_norm(tile.mixes[t]) : T(0);
      scratch_.positive_weight[t] = used ? labels[t] : T(0);
      scratch_.negative_weight[t] = used ? T(1) - labels[t] : T(0);
      finite &= similarity[t] - similarity[t] == T(0) && scratch_.positive_weight[t] == scratch_.positive_weight[t];
    }
    const Row<T> row{.size = padded(tile.size, kRowPad),
                     .similarity_i = T(0),
                     .similarity = similarity,
                     .first = nullptr,
                     .second = nullptr,
                     .positive_weight = scratch_.positive_weight,
                     .negative_weight = scratch_.negative_weight};
    pass_.add(anchor, labels, row, finite);
  }

  const AnchorSumsArgs<T>& args_;
  const MixesOfAnchor<T> mixes_;
  AnchorScratch<T>& scratch_;
  Pass& pass_;
  const T* const z_ = static_cast<const T*>(args_.mixed);
  const ProductKernels<T>& products_ = product_kernels<T>();
};

// body(side) for the sides that labels of a set of pairs have terms for. One side at a time: labels mix both in a tile.
template <class Body>
void for_each_side(Pairs pairs, const Body& body) {
  const Sides taken = describe(pairs).sides;
  if (takes(taken, 0)) body(Sides::kPositive);
  if (takes(taken, 1)) body(Sides::kNegative);
}

// make_pass(scratch) gives the pass of a group.
template <class T, class MakePass>
void walk_anchors(const AnchorSumsArgs<T>& args, int threads, const MakePass& make_pass) {
  const AnchorGroups<T> groups(args);
  for_each_slab<AnchorScratch<T>>(groups.size(), threads, [&](AnchorScratch<T>& scratch, int64_t g) {
    auto pass = make_pass(scratch);
    AnchorWalk(args, scratch, pass).group(groups.begin(g), groups.count(g));
  });
}

// Every mix is multiplied with one anchor at least.
template <class T>
int threads_for(const AnchorSumsArgs<T>& args, int threads) {
  return threads_for(args.mixes.count * args.size, threads);
}

}  // namespace metrix::cpu
